//! Resources that run out, and come back: senders are told to retry, reports go on, and then everything resumes by itself with
//! nothing lost and nothing counted twice.

mod descriptors;
mod disk;
mod memory;
