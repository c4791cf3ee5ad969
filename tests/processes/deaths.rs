//! Parents, children and servers that are killed.
