#!/bin/sh
# A job that shows that the image works: the usual tools, and rights to become root.
set -eu
git init --quiet repository
cd repository
echo '{"answer": 42}' > answer.json
git add answer.json
git -c user.name=Job -c user.email=job@example.org commit --quiet -m 'An answer'
test "$(git show HEAD:answer.json | jq .answer)" = 42
test "$(sudo id -u)" = 0
python3 -c 'print("python works")'
