//! The control plane: public API, authentication, admission, reconcilers.
