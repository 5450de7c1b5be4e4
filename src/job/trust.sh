# Arguments: none. Standard input: certificates in PEM form, or nothing where none are to be trusted any more.
own=/usr/local/share/ca-certificates/dayfly.crt
kept=/var/lib/dayfly
umask 022
mkdir -p /usr/local/share/ca-certificates "$kept"
cat > "$own.new"
mv "$own.new" "$own"
# Debian and Alpine; Fedora and what is like it. One that is not there is made for those that the variables name.
for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem; do
	case $bundle in
	/etc/pki/*) test -e "$bundle" || continue ;;
	esac
	original=$kept/$(basename "$bundle")
	mkdir -p "${bundle%/*}"
	# What an image came with, once: certificates that a clone of this machine is given replace these.
	test -e "$original" || cp "$bundle" "$original" 2>/dev/null || : > "$original"
	cat "$original" "$own" > "$bundle.dayfly"
	mv "$bundle.dayfly" "$bundle"
done
