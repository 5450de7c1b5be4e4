# Checks out one exact commit. Arguments: directory, address, commit, depth (0: all), tags, clean, submodules, forge, prepared (the
# directory is a clone in which everything that git ignores was put on purpose).
directory=$1 address=$2 commit=$3 depth=$4 tags=$5 clean=$6 submodules=$7 forge=$8 prepared=$9
export GIT_TERMINAL_PROMPT=0
# The address is this machine's own, whatever proxies the workflow names.
export no_proxy="127.0.0.1${no_proxy:+,$no_proxy}" NO_PROXY="127.0.0.1${NO_PROXY:+,$NO_PROXY}"

mkdir -p -- "$directory"
cd -- "$directory"
if [ ! -d .git ]; then
  git init -q .
  git remote add origin "$address"
elif [ "$clean" = yes ] && [ "$prepared" = no ]; then
  git clean -ffdxq
  git reset -q --hard
fi

set -- --quiet --force --no-recurse-submodules
if [ "$depth" != 0 ]; then set -- "$@" "--depth=$depth"; elif [ -f .git/shallow ]; then set -- "$@" --unshallow; fi
if [ "$tags" = yes ]; then set -- "$@" --tags; else set -- "$@" --no-tags; fi
echo "Fetching $commit"
git -c protocol.version=2 fetch "$@" origin "$commit"
git checkout -q --force --detach "$commit"
# By the rules of this commit, which may ignore other files than the one before.
if [ "$prepared" = yes ]; then git clean -ffdq; fi

if [ "$submodules" != no ]; then
  set -- --init --force
  [ "$depth" = 0 ] || set -- "$@" "--depth=$depth"
  [ "$submodules" = recursive ] && set -- "$@" --recursive
  proxy=${address%/*/*}/
  git -c "url.$proxy.insteadOf=$forge" -c protocol.version=2 submodule update "$@"
fi
git log -1 --format='HEAD is now at %H %s'
