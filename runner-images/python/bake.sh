#!/bin/sh
# Starts what jobs start first, so that its pages are in the snapshot.
set -eu
python3 -c 'import json, os, re, ssl, subprocess, sys, unittest'
