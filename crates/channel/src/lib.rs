//! A byte stream that can be re-opened, over one seqpacket socket between host and guest.
