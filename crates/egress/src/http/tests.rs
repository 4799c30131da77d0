//! The proxy between a guest and an upstream in the same process: real HTTP on both sides.

mod attacks;
mod content;
mod credentials;
mod judgement;
mod rig;
mod versions;
mod websockets;
