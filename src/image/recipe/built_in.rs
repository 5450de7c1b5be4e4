//! Recipes that come with the binary.

/// A recipe's name and its files.
type BuiltIn = (&'static str, &'static [(&'static str, &'static str)]);

/// Includes files of `runner-images`.
macro_rules! recipes {
    ($($name:literal: $($file:literal)+;)*) => {
        &[$(($name, &[$(($file, include_str!(concat!("../../../runner-images/", $name, "/", $file)))),+]),)*]
    };
}

const RECIPES: &[BuiltIn] = recipes! {
    "base": "image.toml" "setup.sh";
    "docker": "image.toml" "setup.sh" "bake.sh";
    "node": "image.toml" "bake.sh";
    "python": "image.toml" "setup.sh" "bake.sh";
    "rust": "image.toml" "bake.sh";
};

/// The files of a recipe.
pub(super) fn files(name: &str) -> Option<&'static [(&'static str, &'static str)]> {
    RECIPES.iter().find(|(built_in, _)| *built_in == name).map(|(_, files)| *files)
}

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    RECIPES.iter().map(|(name, _)| *name)
}
