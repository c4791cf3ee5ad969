//! A small web server of this computer's own, with moods: to be downloaded from, and for nothing
//! else.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sha2::{Digest, Sha256};

/// What is wrong with the first answer to a request for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Nothing.
    Good,
    /// It says that it is busy.
    Busy,
    /// It ends in the middle.
    CutShort,
    /// A byte is another one.
    Garbled,
    /// There is no such file; and there will be none.
    Missing,
}

/// What the server has, by name.
pub(crate) type Files = BTreeMap<&'static str, (Mood, Vec<u8>)>;

/// What was asked for: the name of a file, and from which byte on.
pub(crate) type Request = (String, usize);

pub(crate) struct Server {
    /// The URL of the list of checksums.
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Serves files, each request by a thread, until the process ends.
    pub(crate) fn start(files: Files) -> io::Result<Server> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/SHA256SUMS", listener.local_addr()?);
        let (files, requests) = (Arc::new(files), Arc::new(Mutex::new(Vec::new())));
        let server = Server { url, requests: requests.clone() };
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (files, requests) = (files.clone(), requests.clone());
                thread::spawn(move || serve(connection, &files, &requests));
            }
        });
        Ok(server)
    }

    /// What was asked for so far, in that order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The list of checksums, as `sha256sum` writes it.
fn list(files: &Files) -> Vec<u8> {
    let lines = files.iter().map(|(name, (_, bytes))| {
        let sum: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{sum}  {name}\n")
    });
    lines.collect::<String>().into_bytes()
}

/// Reads a request, if it is one.
fn read_request(connection: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(connection).lines();
    let name = lines.next()?.ok()?.strip_prefix("GET /")?.split(' ').next()?.to_string();
    let mut start = 0;
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let line = line.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            start = range.strip_suffix('-')?.parse().ok()?;
        }
    }
    Some((name, start))
}

fn serve(mut connection: TcpStream, files: &Files, requests: &Mutex<Vec<Request>>) -> Option<()> {
    let (name, start) = read_request(&connection)?;
    let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
    let is_first = !requests.iter().any(|(known, _)| *known == name);
    requests.push((name.clone(), start));
    drop(requests);

    let (mood, mut bytes) = match files.get(&*name) {
        _ if name == "SHA256SUMS" => (Mood::Good, list(files)),
        Some((mood, bytes)) => (*mood, bytes.clone()),
        None => (Mood::Missing, Vec::new()),
    };
    let whole = bytes.len();
    let status = match mood {
        Mood::Missing => "404 Not Found",
        Mood::Busy if is_first => "503 Service Unavailable",
        _ if start == 0 => "200 OK",
        _ if start < whole => "206 Partial Content",
        _ => "416 Range Not Satisfiable",
    };
    if !status.starts_with('2') {
        bytes.clear();
    }
    let mut body = bytes.split_off(start.min(bytes.len()));
    let length = body.len();
    match mood {
        Mood::CutShort if is_first => body.truncate(length / 2),
        Mood::Garbled if is_first => body.iter_mut().take(1).for_each(|byte| *byte ^= 1),
        _ => {}
    }
    let mut head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n");
    if status.starts_with("206") {
        head += &format!("Content-Range: bytes {start}-{}/{whole}\r\n", whole - 1);
    }
    connection.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    connection.write_all(&body).ok()
}
