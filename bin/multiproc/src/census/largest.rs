//! The largest files met so far.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};

use super::report::Large;
use super::text::path_text;

/// Files on the list.
const FILES: usize = 10;

/// The ten largest files; of those of the same size the ones whose paths come first. The list
/// doesn't depend on the order in which the files were added.
#[derive(Debug, Default)]
pub(crate) struct Largest {
    /// Sorted, the largest first.
    files: Vec<(Reverse<u64>, PathBuf)>,
}

impl Largest {
    /// Takes note of a file. Adding one twice, as often as it was counted, lists it twice.
    pub(crate) fn add(&mut self, path: &Path, bytes: u64) {
        let place = self
            .files
            .partition_point(|(size, other)| (size, other.as_path()) <= (&Reverse(bytes), path));
        if place < FILES {
            self.files.truncate(FILES - 1);
            self.files.insert(place, (Reverse(bytes), path.to_path_buf()));
        }
    }

    /// The list, the largest file first.
    pub(crate) fn into_list(self) -> Vec<Large> {
        self.files
            .into_iter()
            .map(|(Reverse(bytes), path)| Large { path: path_text(&path), bytes })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(files: &[(&str, u64)]) -> Vec<(String, u64)> {
        let mut largest = Largest::default();
        for (path, bytes) in files {
            largest.add(Path::new(path), *bytes);
        }
        largest.into_list().into_iter().map(|file| (file.path, file.bytes)).collect()
    }

    #[test]
    fn list_is_sorted_by_size_then_path() {
        let list = listed(&[("b", 5), ("c", 9), ("a", 5), ("d", 0)]);
        let list = list.iter().map(|(path, bytes)| (path.as_str(), *bytes)).collect::<Vec<_>>();
        assert_eq!(list, [("c", 9), ("a", 5), ("b", 5), ("d", 0)]);
    }

    #[test]
    fn list_keeps_the_ten_largest_in_whatever_order_they_come() {
        let names = (0..30).map(|number| format!("{number:02}")).collect::<Vec<_>>();
        // Three files of each size, so that the tenth place goes to one of several.
        let mut files = names
            .iter()
            .zip(0..)
            .map(|(name, number)| (name.as_str(), number / 3))
            .collect::<Vec<_>>();
        let forward = listed(&files);
        files.reverse();
        let backward = listed(&files);
        files.rotate_left(13);
        assert_eq!(forward, backward);
        assert_eq!(forward, listed(&files));
        let kept = forward.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        assert_eq!(kept, ["27", "28", "29", "24", "25", "26", "21", "22", "23", "18"]);
    }

    #[test]
    fn list_of_a_file_added_twice_has_it_twice() {
        assert_eq!(listed(&[("a", 1), ("a", 1)]).len(), 2);
    }

    #[test]
    fn list_of_no_files_is_empty() {
        assert!(listed(&[]).is_empty());
    }
}
