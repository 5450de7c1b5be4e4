#!/bin/sh
# A job that shows that the image works: a package with a native module is made, installed and used, without a network.
set -eu
mkdir -p answer app
cat > answer/package.json <<'END'
{ "name": "answer", "version": "1.0.0", "main": "index.js" }
END
echo 'module.exports = () => 6 * 7;' > answer/index.js
cd app
npm init -y >/dev/null
npm install --offline --no-audit ../answer
test "$(node -e 'console.log(require("answer")())')" = 42
echo 'int main() { return 0; }' > native.cc && g++ native.cc -o native && ./native
echo "node $(node --version) works"
