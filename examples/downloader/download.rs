//! What a worker does: it downloads one file, and doesn't give up soon.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ureq::Agent;

/// How often a file is asked for.
const ATTEMPTS: u32 = 5;
/// How long the first pause is.
const PAUSE: Duration = Duration::from_millis(100);

/// Each worker has one, and keeps its connections from one file to the next.
pub(crate) static AGENT: LazyLock<Agent> = LazyLock::new(|| {
    let patience = Some(Duration::from_secs(30));
    let config = Agent::config_builder().proxy(None).timeout_connect(patience);
    config.timeout_recv_response(patience).timeout_per_read(patience).build().new_agent()
});

/// A file that is to be downloaded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) url: String,
    pub(crate) file: PathBuf,
    /// Its SHA-256, in hexadecimal digits.
    pub(crate) checksum: String,
}

fn checksum(file: &Path) -> io::Result<String> {
    let (mut reader, mut hasher) = (BufReader::new(File::open(file)?), Sha256::new());
    while let bytes @ [_, ..] = reader.fill_buf()? {
        hasher.update(bytes);
        let count = bytes.len();
        reader.consume(count);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Asks for what is not there yet of a file, and appends it.
fn fetch_rest(url: &str, part: &Path) -> Result<(), ureq::Error> {
    let have = fs::metadata(part).map_or(0, |metadata| metadata.len());
    let mut request = AGENT.get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let mut response = match request.call() {
        // There is nothing after that. Its checksum tells whether it is the file.
        Err(ureq::Error::StatusCode(416)) => return Ok(()),
        response => response?,
    };
    let mut file = File::options().create(true).append(true).open(part)?;
    if response.status() != 206 {
        file.set_len(0)?; // this server sends all of it again
    }
    io::copy(&mut response.body_mut().as_reader(), &mut file)?;
    Ok(())
}

/// Whether it would fail again.
fn is_final(error: &ureq::Error) -> bool {
    use ureq::Error::{BadUri, Http, RequireHttpsOnly, StatusCode, TlsRequired};
    match error {
        StatusCode(status) => (400..500).contains(status) && ![408, 429].contains(status),
        error => matches!(error, BadUri(_) | Http(_) | RequireHttpsOnly(_) | TlsRequired),
    }
}

/// Downloads a file, and says how often it asked for it.
pub(crate) fn download(wanted: Wanted) -> Result<u32, String> {
    let Wanted { url, file, checksum: expected } = wanted;
    if checksum(&file).is_ok_and(|known| known == expected) {
        return Ok(0);
    }
    let part = file.with_added_extension("part");
    let mut attempt = 1;
    loop {
        let reason = match fetch_rest(&url, &part) {
            Ok(()) if checksum(&part).map_err(|error| error.to_string())? == expected => {
                fs::rename(&part, &file).map_err(|error| error.to_string())?;
                return Ok(attempt);
            }
            Ok(()) => {
                let _ = fs::remove_file(&part);
                "its checksum is wrong".into()
            }
            Err(error) if is_final(&error) => return Err(error.to_string()),
            Err(error) => error.to_string(),
        };
        if attempt == ATTEMPTS {
            return Err(format!("{reason}, after {attempt} attempts"));
        }
        thread::sleep(PAUSE * 2_u32.pow(attempt - 1));
        attempt += 1;
    }
}
