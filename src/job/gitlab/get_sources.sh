# Fetches one commit of a project of GitLab's, with what belongs to it. Everything is told by variables that begin with `GET_`;
# lists have an entry on each line.
export GIT_TERMINAL_PROMPT=0
# All at once at the end, rather than file by file.
export GIT_LFS_SKIP_SMUDGE=1
# The address is this machine's own, whatever proxies the job names.
export no_proxy="127.0.0.1${no_proxy:+,$no_proxy}" NO_PROXY="127.0.0.1${NO_PROXY:+,$NO_PROXY}"
set -f
IFS='
'
# The host's way to the instance, for whatever names its repositories.
for alias in $GET_ALIASES; do git config --global --add "url.$GET_BASE.insteadOf" "$alias"; done
git config --global --add safe.directory '*'

mkdir -p -- "$GET_DIRECTORY"
cd -- "$GET_DIRECTORY"
case $GET_STRATEGY in
nothing) echo 'Skipping Git repository setup'; exit 0 ;;
esac

if [ "$GET_DEPTH" != 0 ]; then
  echo "Fetching changes with git depth set to $GET_DEPTH..."
else
  echo 'Fetching changes...'
fi
git -c init.defaultBranch=none init -q ${GET_FORMAT:+"--object-format=$GET_FORMAT"} .
if git remote add origin "$GET_BASE$GET_PROJECT.git" 2>/dev/null; then
  echo 'Created fresh repository.'
else
  git remote set-url origin "$GET_BASE$GET_PROJECT.git"
fi
git config fetch.recurseSubmodules false
git config gc.autoDetach false
rm -f .git/index.lock .git/shallow.lock .git/HEAD.lock .git/config.lock .git/hooks/post-checkout

set -- -c protocol.version=2 fetch origin --no-recurse-submodules
if [ "$GET_DEPTH" != 0 ]; then set -- "$@" --depth "$GET_DEPTH"; elif [ -f .git/shallow ]; then set -- "$@" --unshallow; fi
# Options of the job's own come last, so that they count.
git "$@" $GET_REFSPECS $GET_FETCH_FLAGS
# The refs may have moved since.
if [ -n "$GET_SHA" ] && ! git cat-file -e "$GET_SHA^{commit}" 2>/dev/null; then
  git "$@" "$GET_SHA"
fi

if [ "$GET_CHECKOUT" = no ]; then
  echo 'Skipping Git checkout'
else
  short=$(printf %.8s "$GET_SHA")
  echo "Checking out $short as detached HEAD (ref is $GET_REF)..."
  git -c submodule.recurse=false checkout -f -q --detach "$GET_SHA"
  if [ -n "$GET_CLEAN_FLAGS" ]; then git clean $GET_CLEAN_FLAGS; fi
fi

has_lfs=no
if [ "$GET_LFS" = yes ] && git lfs version >/dev/null 2>&1; then has_lfs=yes; fi
# From where the commit came, whatever `.lfsconfig` says.
pull='git lfs install --local --skip-repo >/dev/null &&
  url=$(git ls-remote --get-url origin) && git config lfs.url "${url%.git}.git/info/lfs" && git lfs pull origin'
if [ "$has_lfs" = yes ] && [ "$GET_CHECKOUT" = yes ]; then sh -c "$pull"; fi

if [ "$GET_SUBMODULES" = none ]; then
  echo 'Skipping Git submodules setup'
else
  recursive=
  if [ "$GET_SUBMODULES" = recursive ]; then
    recursive=--recursive
    echo 'Updating/initializing submodules recursively...'
  else
    echo 'Updating/initializing submodules...'
  fi
  git submodule init
  git submodule sync --quiet ${recursive:+"$recursive"} -- $GET_SUBMODULE_PATHS
  set -- submodule update --init ${recursive:+"$recursive"}
  if [ "$GET_SUBMODULE_DEPTH" != 0 ]; then set -- "$@" --depth "$GET_SUBMODULE_DEPTH"; fi
  git -c protocol.version=2 "$@" $GET_SUBMODULE_FLAGS -- $GET_SUBMODULE_PATHS
  if [ -n "$GET_CLEAN_FLAGS" ]; then git submodule --quiet foreach ${recursive:+"$recursive"} git clean $GET_CLEAN_FLAGS; fi
  if [ "$has_lfs" = yes ]; then git submodule --quiet foreach ${recursive:+"$recursive"} "$pull"; fi
fi
