//! `docs/configuration.md`, made of the table of keys.

use std::fmt::Write;

use super::keys::{Section, keys_of};

const HEAD: &str = "\
# The configuration

`multiproc run -c multiproc.toml` keeps running what the file says, and `multiproc check -c multiproc.toml` says what is
wrong with it, by line and key: all of it at once, with exit code 78. `multiproc reload` without names, or SIGHUP to the
supervisor, reads it again: what has changed is replaced, the rest is not touched, and a file with errors changes nothing.

The file is [TOML](https://toml.io). A key that is not listed here is an error. A key with a dot may be written as
`limits.memory = \"512MiB\"` or as `limits = { memory = \"512MiB\" }`.

* A **duration** is a string of numbers with `ms`, `s`, `m`, `h` or `d`: `\"250ms\"`, `\"1m30s\"`.
* A **size** is a number of bytes, or a string with `KiB`, `MiB`, `GiB`, `TiB`, `kB`, `MB`, `GB` or `TB`: `\"512MiB\"`.
* A **name** has 1 to 32 letters, digits, `-` or `_`; `all` is none.
* An **address** is `\"tcp://127.0.0.1:8000\"`, `\"tcp://[::1]:8000\"` or `\"unix:///run/web.sock\"`.
* A relative **path** begins at the directory of the file, unless something else is said.

`multiproc.toml` beside this file is an example, and `multiproc.service` a unit for systemd. This file is made by
`cargo run -p multiproc-cli -- document configuration > docs/configuration.md`.
";

/// The text of the file.
pub(crate) fn document() -> String {
    let mut text = HEAD.to_string();
    for section in Section::ALL {
        let _ = write!(
            text,
            "\n## `{section}`\n\n| key | value | default | example | |\n|---|---|---|---|---|\n"
        );
        for key in keys_of(section) {
            let default = match key.default {
                "" => "–".into(),
                default => format!("`{default}`"),
            };
            let _ = writeln!(
                text,
                "| `{}` | {} | {default} | `{}` | {} |",
                key.name, key.kind, key.example, key.text
            );
        }
    }
    text
}
