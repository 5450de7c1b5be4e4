# Checks out one commit. Arguments: directory, address, commit (empty: the one at which the reference is), depth (0: all), tags, clean,
# submodules, forge, prepared (the directory is a clone in which everything that git ignores was put on purpose), LFS, reference
# (empty: the default branch), filter, which files (`all`, or how to read the patterns that follow).
directory=$1 address=$2 commit=$3 depth=$4 tags=$5 clean=$6 submodules=$7 forge=$8 prepared=$9
shift 9
lfs=$1 reference=$2 filter=$3 files=$4
shift 4
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
if [ -d .git ] && [ "$(git config --get remote.origin.url)" != "$address" ]; then
  # A clone of another repository: nothing of it may remain.
  find . -mindepth 1 -maxdepth 1 -exec rm -rf {} +
  prepared=no
fi
if [ ! -d .git ]; then
  git init -q .
  git remote add origin "$address"
elif [ "$clean" = yes ] && [ "$prepared" = no ]; then
  git clean -ffdxq
  git reset -q --hard
fi

# What the reference is: a commit, a full name, the name of a branch, of a tag, or that of the default branch.
branch=
if [ -z "$commit" ]; then
  case $reference in
    '') names=HEAD ;;
    *[!0-9a-f]*) names="refs/heads/$reference refs/tags/$reference^{} refs/tags/$reference" ;;
    ????????????????????????????????????????) commit=$reference ;;
    *) names="refs/heads/$reference refs/tags/$reference^{} refs/tags/$reference" ;;
  esac
  case $reference in refs/*) names="$reference^{} $reference" ;; esac
  if [ -z "$commit" ]; then
    there=$(git -c protocol.version=2 ls-remote origin $names)
    for name in $names; do
      commit=$(printf '%s\n' "$there" | while read -r id found; do [ "$found" = "$name" ] && echo "$id"; done | head -n 1)
      [ -n "$commit" ] && break
    done
    if [ -z "$commit" ]; then
      echo "error: $address has no branch or tag \`$reference\`" >&2
      exit 1
    fi
    echo "\`${reference:-HEAD}\` is at $commit"
    case $name in refs/heads/*) branch=${name#refs/heads/} ;; esac
  fi
fi

fetch() { git -c protocol.version=2 fetch --quiet --force --no-recurse-submodules ${filter:+"--filter=$filter"} "$@"; }
[ "$files" = all ] || filter=${filter:-blob:none}
deep= named=--no-tags
if [ "$depth" != 0 ]; then deep=--depth=$depth; elif [ -f .git/shallow ]; then deep=--unshallow; fi
[ "$tags" = yes ] && named=--tags
echo "Fetching $commit"
fetch $deep $named origin "$commit"
case $files in
  all) if [ "$(git config --get core.sparseCheckout)" = true ]; then git sparse-checkout disable; fi ;;
  *) printf '%s\n' "$@" | git sparse-checkout set "$files" --stdin ;;
esac
if [ -n "$branch" ]; then
  git update-ref "refs/remotes/origin/$branch" "$commit"
  git -c protocol.version=2 checkout -q --force -B "$branch" "$commit"
else
  git -c protocol.version=2 checkout -q --force --detach "$commit"
fi
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
if [ -n "$GITHUB_OUTPUT" ]; then
  printf 'ref=%s\ncommit=%s\n' "${reference:-$GITHUB_REF}" "$(git rev-parse HEAD)" >> "$GITHUB_OUTPUT"
fi
