# Checks out one exact commit. Arguments: directory, address, commit, depth (0: all), tags, clean, submodules, forge, prepared (the
# directory is a clone in which everything that git ignores was put on purpose), LFS.
directory=$1 address=$2 commit=$3 depth=$4 tags=$5 clean=$6 submodules=$7 forge=$8 prepared=$9 lfs=${10}
export GIT_TERMINAL_PROMPT=0
# All at once at the end, rather than file by file.
export GIT_LFS_SKIP_SMUDGE=1
if [ "$lfs" = yes ] && ! git lfs version >/dev/null 2>&1; then
  echo 'error: `lfs: true` needs Git LFS, which this image does not have' >&2
  echo '  hint: add the package `git-lfs` to the packages of the image, or leave `lfs` out' >&2
  exit 1
fi
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

if [ "$lfs" = yes ]; then
  # From where the commit came, whatever `.lfsconfig` says. The settings stay, so that later steps find more files.
  pull='git lfs install --local --skip-repo >/dev/null &&
    url=$(git ls-remote --get-url origin) && git config lfs.url "${url%.git}.git/info/lfs" && git lfs pull origin'
  echo 'Fetching files of Git LFS'
  sh -c "$pull"
  if [ "$submodules" != no ]; then
    set -- --quiet
    [ "$submodules" = recursive ] && set -- "$@" --recursive
    git -c "url.$proxy.insteadOf=$forge" submodule foreach "$@" "$pull"
  fi
fi
git log -1 --format='HEAD is now at %H %s'
