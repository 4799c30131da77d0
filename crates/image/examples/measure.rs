//! Measures the store on this machine: how long it takes to take a root file system in as a layer,
//! and to make an image of it, beside a plain copy of the same bytes.
//!
//! `cargo run --release -p courier-image --example measure -- ROOT.tar GUEST-DAEMON FOLDER`

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use courier_image::{GuestFiles, Store, StoreBounds};

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args_os().skip(1).map(PathBuf::from);
    let mut next = || words.next().context("usage: measure ROOT.tar GUEST-DAEMON FOLDER");
    let (tar, daemon, folder) = (next()?, next()?, next()?);

    let began = Instant::now();
    let copy = folder.join("copy");
    let mut target = File::create(&copy)?;
    let bytes = io::copy(&mut File::open(&tar)?, &mut target)?;
    target.sync_all()?;
    told("copy, synced", began, bytes);
    std::fs::remove_file(&copy)?;

    let store = Store::open(&folder, GuestFiles { daemon }, StoreBounds::default())?;
    let _lease = store.lease()?;
    let began = Instant::now();
    let layer = store.add_layer(File::open(&tar)?)?;
    told("add_layer", began, layer.size_bytes);
    let began = Instant::now();
    let image = store.image(&[layer.digest])?;
    told("image", began, image.metadata()?.len());
    let began = Instant::now();
    let again = store.image(&[layer.digest])?;
    told("image, there already", began, 0);
    println!("{} {}", layer.entries, again.display());
    Ok(())
}

fn told(what: &str, began: Instant, bytes: u64) {
    let seconds = began.elapsed().as_secs_f64();
    let rate = bytes as f64 / seconds / 1e6;
    println!("{what:22} {seconds:7.3} s {:6} MB {rate:7.0} MB/s", bytes / 1_000_000);
}
