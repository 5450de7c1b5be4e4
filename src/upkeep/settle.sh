# Leaves a prepared machine as a checkout of any commit expects it: no file of this job's steps, and a clone that knows nothing
# but the commit. What git ignores in the work tree stays, as does everything elsewhere: that is what was prepared.
# Arguments: directory, address, commit, directory of temporary files.
directory=$1 address=$2 commit=$3 temporary=$4

rm -rf -- "$temporary"

cd -- "$directory"
# Hooks, filters, flags of the index and settings would change what later checkouts do.
mv .git .git-prepared
git init -q .
git remote add origin "$address"
rm -rf .git/objects
mv .git-prepared/objects .git/objects
if [ -f .git-prepared/shallow ]; then mv .git-prepared/shallow .git/shallow; fi
rm -rf .git-prepared
git update-ref --no-deref HEAD "$commit"
git read-tree "$commit"
# Submodules, which are not part of the commit.
git ls-files --stage -z | sed -zn 's/^160000 [^\t]*\t//p' | xargs -0 -r rm -rf --
git update-index -q --refresh || true
git checkout -q --force --detach "$commit"
git clean -ffdq
