//! A folder of pictures is made into a folder of small, grey and soft ones, by a pool.
//!
//! In Python:
//!
//! ```python
//! def process_image(image_file, output_file):
//!     image = Image.open(image_file)
//!     # ...
//!     image.save(output_file)
//!
//! for task in image_tasks:
//!     process = multiprocessing.Process(target=process_image, args=(task["in"], task["out"]))
//!     process.start()
//! ```
//!
//! There, a thousand pictures are a thousand processes at once, and nobody looks at how they end.
//! Here there are as many workers as processors. A file that is no picture is an error of that file
//! alone, and so is one that makes the decoder panic, run out of memory or never end.
//!
//! Run it with `cargo run --release --example images [FOLDER [OUTPUT]]`. What becomes of the
//! pictures in the folder is put into the output folder, `FOLDER/processed` if there is none.
//! Without a folder, it makes one of its own.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use image::{RgbImage, imageops};
use multiproc::{Pool, cpu_count};

/// How wide and how high the pictures are at most that come out.
const SIZE: u32 = 64;

/// Makes one picture of another, and says how wide and high it is.
fn process((from, to): (PathBuf, PathBuf)) -> Result<(u32, u32), String> {
    let picture = image::open(from).map_err(|error| error.to_string())?;
    let small = picture.thumbnail(SIZE, SIZE).into_luma8();
    let soft = imageops::blur(&small, 1.5);
    soft.save(to).map_err(|error| error.to_string())?;
    Ok(soft.dimensions())
}

fn is_picture(file: &Path) -> bool {
    let extension = file.extension().unwrap_or_default().to_ascii_lowercase();
    ["png", "jpg", "jpeg"].iter().any(|known| extension == *known)
}

/// Processes all pictures of a folder, and says how many could not be.
fn process_folder(from: &Path, to: &Path) -> Result<usize, Box<dyn Error>> {
    let entries = fs::read_dir(from).map_err(|error| format!("{}: {error}", from.display()))?;
    let files =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    let mut pictures: Vec<_> = files.into_iter().filter(|file| is_picture(file)).collect();
    pictures.sort();
    if pictures.is_empty() {
        return Err(format!("{}: there is no PNG or JPEG file in it", from.display()).into());
    }
    fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;

    let pool = Pool::builder(cpu_count()).time_limit(Duration::from_secs(60)).build()?;
    let jobs: Vec<_> = pictures
        .iter()
        .map(|file| (file.clone(), to.join(file.file_name().unwrap_or_default())))
        .collect();
    let mut failed = 0;
    for (file, outcome) in pictures.iter().zip(pool.imap(process, jobs)?) {
        let name = file.file_name().unwrap_or_default().display();
        // What the function says, and what may have become of it.
        match outcome.map_err(|error| error.to_string()).flatten() {
            Ok((width, height)) => println!("{name}: {width} × {height}"),
            Err(reason) => {
                println!("{name}: left out: {reason}");
                failed += 1;
            }
        }
    }
    println!("{} of {} pictures are done", pictures.len() - failed, pictures.len());
    Ok(failed)
}

/// Makes a folder of pictures, of which one is broken, and processes it.
fn demonstrate() -> Result<usize, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    for (number, name) in ["a.png", "b.jpg", "c.jpeg", "d.PNG"].into_iter().enumerate() {
        let tone = 60 * number as u8;
        let (width, height) = (200 + 40 * number as u32, 200);
        let picture = RgbImage::from_fn(width, height, |x, y| [x as u8, y as u8, tone].into());
        picture.save(folder.path().join(name))?;
    }
    let whole = fs::read(folder.path().join("a.png"))?;
    fs::write(folder.path().join("broken.png"), &whole[..whole.len() / 2])?;
    // One is meant to fail.
    process_folder(folder.path(), &folder.path().join("processed"))?;
    Ok(0)
}

fn main() -> ExitCode {
    multiproc::init(); // a worker stays in here and never returns

    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let outcome = match &arguments[..] {
        [] => demonstrate(),
        [folder] => process_folder(folder, &folder.join("processed")),
        [folder, output] => process_folder(folder, output),
        _ => Err("usage: images [FOLDER [OUTPUT]]".into()),
    };
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("images: {error}");
            ExitCode::FAILURE
        }
    }
}
