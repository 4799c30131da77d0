//! Whole networks, from the guest's end of the link to servers outside.

mod changing;
mod ending;
mod guest;
mod opened;
mod outside;
mod passing;
mod private;
mod rig;
