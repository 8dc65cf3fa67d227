//! The public wire: objects survive it, broken messages are refused with a field's path, everything is documented.

mod broken;
mod descriptors;
mod generators;
mod round_trip;
mod template_generators;
