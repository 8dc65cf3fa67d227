//! Enums of known words that may hold any other text too, so that an unknown word reaches validation with its path.
//!
//! Owns: the macro that makes them. Does not own: which words are supported where (validation).

/// An enum of words as Kubernetes writes them, with `Other` for what is none of them.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
            /// What was written is none of these; refused by validation.
            Other(String),
        }

        impl $name {
            /// The words that are known, in the order in which errors list them.
            pub const KNOWN: &'static [&'static str] = &[$($text),*];

            /// Kubernetes' text for it.
            pub fn as_str(&self) -> &str {
                match self {
                    $($name::$variant => $text,)*
                    $name::Other(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> $name {
                match text {
                    $($text => $name::$variant,)*
                    other => $name::Other(other.to_owned()),
                }
            }
        }
    };
}
pub(crate) use words;
