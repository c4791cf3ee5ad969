//! Files are downloaded by a pool, a few at a time, until each is what the server says it is.
//!
//! In Python:
//!
//! ```python
//! def download(url, filename):
//!     response = requests.get(url)
//!     with open(filename, "wb") as f:
//!         f.write(response.content)
//!
//! for task in download_tasks:
//!     thread = threading.Thread(target=download, args=(task["url"], task["filename"]))
//!     thread.start()
//! ```
//!
//! There, a thousand files are a thousand requests at once, an error page becomes a file, and what
//! is cut short looks as if it were whole. Here:
//!
//! - as many files are on their way as there are workers;
//! - what fails is tried again, after a pause that doubles each time, unless it would fail for good;
//! - what is there already of a file, in `FILE.part`, is not asked for again;
//! - a file gets its name when its checksum is right.
//!
//! Run it with `cargo run --example downloader URL FOLDER`. The URL is that of a list of checksums,
//! as `sha256sum` writes it, and the files are beside it on the server: many servers have a
//! `SHA256SUMS`. It speaks plain HTTP, without a proxy. Without arguments it downloads from a moody
//! server of its own.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use multiproc::Pool;

use crate::download::{AGENT, Wanted, download};
use crate::server::{Mood, Server};

mod download;
mod server;

/// How many files are on their way at once.
const WORKERS: usize = 4;

/// Reads a list of checksums and names: what it wants, in the order of the names.
fn read_list(url: &str, list: &str, folder: &Path) -> Result<Vec<Wanted>, String> {
    let (place, _) = url.rsplit_once('/').ok_or("a URL has a slash")?;
    let wanted = list.lines().map(|line| {
        let (checksum, name) = line.split_once([' ', '\t']).unwrap_or_default();
        let name = name.trim_start_matches([' ', '*']);
        let is_name = !name.is_empty() && Path::new(name).file_name() == Some(name.as_ref());
        if checksum.len() != 64 || !is_name {
            return Err(format!("{url}: not a checksum and a name: {line:?}"));
        }
        let (url, file) = (format!("{place}/{name}"), folder.join(name));
        Ok((name, Wanted { url, file, checksum: checksum.to_ascii_lowercase() }))
    });
    // Each name once: two workers that write to one file would be in each other's way.
    Ok(wanted.collect::<Result<BTreeMap<_, _>, _>>()?.into_values().collect())
}

/// Downloads all files of a list, and says how many could not be.
fn download_all(url: &str, folder: &Path) -> Result<usize, Box<dyn Error>> {
    let list = AGENT.get(url).call().and_then(|mut response| response.body_mut().read_to_string());
    let list = list.map_err(|error| format!("{url}: {error}"))?;
    let wanted = read_list(url, &list, folder)?;
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;

    let pool = Pool::builder(WORKERS).time_limit(Duration::from_secs(3600)).build()?;
    let mut failed = 0;
    for (wanted, outcome) in wanted.iter().zip(pool.imap(download, wanted.clone())?) {
        let name = wanted.file.file_name().unwrap_or_default().display();
        match outcome.map_err(|error| error.to_string()).flatten() {
            Ok(requests) => println!("{name}: requests: {requests}"),
            Err(reason) => {
                println!("{name}: given up: {reason}");
                failed += 1;
            }
        }
    }
    println!("{} of {} files are there", wanted.len() - failed, wanted.len());
    Ok(failed)
}

/// Downloads from a server that is moody: of one file half is there already, and one is missing for
/// good.
fn demonstrate() -> Result<usize, Box<dyn Error>> {
    let bytes: Vec<u8> = (0..100_000_u32).map(|number| (number / 7) as u8).collect();
    let moods = [
        ("begun.bin", Mood::Good),
        ("busy.bin", Mood::Busy),
        ("cut-short.bin", Mood::CutShort),
        ("garbled.bin", Mood::Garbled),
        ("good.bin", Mood::Good),
        ("missing.bin", Mood::Missing),
    ];
    let files = moods.map(|(name, mood)| (name, (mood, bytes.clone())));
    let server = Server::start(files.into())?;
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("begun.bin.part"), &bytes[..50_000])?;
    download_all(&server.url, folder.path())?;
    for (name, start) in server.requests().iter().filter(|(_, start)| *start > 0) {
        println!("{name} was asked for from byte {start} on");
    }
    // One is meant to fail.
    Ok(0)
}

fn main() -> ExitCode {
    multiproc::init(); // a worker stays in here and never returns

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match &arguments[..] {
        [] => demonstrate(),
        [url, folder] => download_all(url, Path::new(folder)),
        _ => Err("usage: downloader [URL FOLDER]".into()),
    };
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("downloader: {error}");
            ExitCode::FAILURE
        }
    }
}
