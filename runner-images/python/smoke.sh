#!/bin/sh
# A job that shows that the image works: an environment is made, and a package of this directory installed in it, without a network.
set -eu
python -m venv --system-site-packages environment
mkdir -p source/answer
echo 'def answer(): return 6 * 7' > source/answer/__init__.py
cat > source/test_answer.py <<'END'
import unittest
from answer import answer
class Test(unittest.TestCase):
    def test_answer(self):
        self.assertEqual(answer(), 42)
END
(cd source && ../environment/bin/python -m unittest)
environment/bin/pip --version
echo "python $(python --version) works"
