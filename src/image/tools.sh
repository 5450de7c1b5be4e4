#!/bin/sh -e
# What tools need that know no variables, in every image and before the scripts of its recipe. ACCOUNT_HOME and ACCOUNT_OWNER
# are of the account that runs jobs. What an image brings by itself stays.
home=$ACCOUNT_HOME owner=$ACCOUNT_OWNER
proxy=http://127.0.0.1:3128
umask 022

# Maven takes settings from a file that a variable names; those of the account are the job's own.
mkdir -p /run/dayfly
cat > /run/dayfly/maven.xml <<'END'
<settings>
  <proxies>
    <proxy><id>dayfly-http</id><protocol>http</protocol><host>127.0.0.1</host><port>3128</port><nonProxyHosts>localhost|127.*</nonProxyHosts></proxy>
    <proxy><id>dayfly-https</id><protocol>https</protocol><host>127.0.0.1</host><port>3128</port><nonProxyHosts>localhost|127.*</nonProxyHosts></proxy>
  </proxies>
</settings>
END

if test -d /etc/sudoers.d && ! test -e /etc/sudoers.d/dayfly; then
	cat > /etc/sudoers.d/dayfly <<'END'
Defaults env_keep += "http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY"
Defaults env_keep += "SSL_CERT_FILE CURL_CA_BUNDLE GIT_SSL_CAINFO REQUESTS_CA_BUNDLE PIP_CERT NODE_EXTRA_CA_CERTS"
Defaults env_keep += "PIP_INDEX_URL PIP_EXTRA_INDEX_URL npm_config_registry npm_config_replace_registry_host"
END
	chmod 0440 /etc/sudoers.d/dayfly
fi

# Gradle's daemon knows only its own properties.
gradle=$home/.gradle
if test -d "$home" && ! test -e "$gradle/gradle.properties"; then
	mkdir -p "$gradle"
	for scheme in http https; do
		echo "systemProp.$scheme.proxyHost=127.0.0.1"
		echo "systemProp.$scheme.proxyPort=3128"
	done > "$gradle/gradle.properties"
	echo 'systemProp.http.nonProxyHosts=localhost|127.*' >> "$gradle/gradle.properties"
	chown -R "$owner" "$gradle"
fi

if command -v dockerd > /dev/null; then
	if ! test -e /etc/docker/daemon.json; then
		mkdir -p /etc/docker
		echo "{\"proxies\": {\"http-proxy\": \"$proxy\", \"https-proxy\": \"$proxy\", \"no-proxy\": \"localhost,127.0.0.0/8\"}}" \
			> /etc/docker/daemon.json
	fi
	# Containers have a loopback interface of their own; the machine is their bridge's address.
	if test -d "$home" && ! test -e "$home/.docker/config.json"; then
		proxy=http://172.17.0.1:3128
		mkdir -p "$home/.docker"
		echo "{\"proxies\": {\"default\": {\"httpProxy\": \"$proxy\", \"httpsProxy\": \"$proxy\", \"noProxy\": \"localhost,127.0.0.0/8\"}}}" \
			> "$home/.docker/config.json"
		chown -R "$owner" "$home/.docker"
	fi
fi
