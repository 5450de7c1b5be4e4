# Every greeting names whom it greets.
while read -r name; do
    greeting=$(sh greet.sh "$name")
    case $greeting in
        *", $name!") echo "ok    $greeting" ;;
        *) echo "FAIL  '$greeting' does not greet the $name"; exit 1 ;;
    esac
done < /cache/names.txt
