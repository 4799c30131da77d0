//! Images and layers: pulled from registries, kept compressed and content-addressed, laid out as one
//! EROFS file that sandboxes start from.
