//! One task per sandbox, the port proxy, the reaper.
