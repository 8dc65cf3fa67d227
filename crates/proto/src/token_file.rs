//! The file that holds a bearer token.
//!
//! Owns: how much of it is read, and how long it is waited for. Does not own: which file it is, the token's form (module `auth`).
//!
//! Invariants: reading it ends, whatever it is; nothing of it is ever in an error.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use crate::limits::{TOKEN_FILE_BYTES_MAX, TOKEN_FILE_PATIENCE};

/// Its text, without the white space around it; of a file that is larger than [`TOKEN_FILE_BYTES_MAX`] its beginning, which is
/// too long for a token. It may be a pipe, such as a shell makes for `<(…)`. Blocks, on what is no regular file for
/// [`TOKEN_FILE_PATIENCE`] at most.
///
/// # Errors
/// What the system says; [`ErrorKind::TimedOut`] for a pipe or terminal whose other end is silent; [`ErrorKind::InvalidData`]
/// if it is no text.
pub fn read_token_file(path: &Path) -> Result<String> {
    read_within(path, TOKEN_FILE_PATIENCE)
}

fn read_within(path: &Path, patience: Duration) -> Result<String> {
    if std::fs::metadata(path)?.is_file() {
        return read(path);
    }
    let (tell, told) = mpsc::sync_channel(1);
    let file = path.to_owned();
    // Opening a FIFO waits for whoever writes into it, reading it too. One that is waited for in vain keeps this thread, which
    // has nothing else, until the process ends.
    std::thread::Builder::new().name("token-file".to_owned()).spawn(move || {
        // Nobody listens any more if it came too late.
        let _ = tell.send(read(&file));
    })?;
    told.recv_timeout(patience).unwrap_or_else(|_| {
        let patience = patience.as_secs();
        let problem =
            format!("it is no regular file, and whoever writes into it was not done within {patience} s");
        Err(Error::new(ErrorKind::TimedOut, problem))
    })
}

fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    File::open(path)?.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    const TOKEN: &str = "a-token-of-tests";

    #[test]
    fn files_are_read_whole_but_for_what_no_token_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, format!("{TOKEN}\r\n")).unwrap();
        assert_eq!(read_token_file(&path).unwrap(), TOKEN);
        std::fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(read_token_file(&path).unwrap().len() as u64, TOKEN_FILE_BYTES_MAX);
        assert_eq!(read_token_file(Path::new("/dev/null")).unwrap(), "");
        assert!(read_token_file(Path::new("/dev/zero")).is_ok(), "it is not read to its end");
        assert_eq!(read_token_file(folder.path()).unwrap_err().kind(), ErrorKind::IsADirectory);
        assert_eq!(read_token_file(&path.join("x")).unwrap_err().kind(), ErrorKind::NotADirectory);
    }

    #[test]
    fn pipes_are_read_and_silent_ones_waited_for_in_vain() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        let late = read_within(Path::new(&path), Duration::from_secs(1)).unwrap_err();
        assert!(late.kind() == ErrorKind::TimedOut && late.to_string().contains("within 1 s"), "{late}");

        let (reader, mut writer_of_other) = std::io::pipe().unwrap();
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            writeln!(writer_of_other, "{TOKEN}").unwrap();
        });
        assert_eq!(read_token_file(Path::new(&path)).unwrap(), TOKEN);
        other.join().unwrap();
        // Only now may the thread that has waited end.
        writer.write_all(b"x").unwrap();
    }

    #[test]
    fn a_fifo_that_nobody_opens_is_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let late = read_within(&path, Duration::from_secs(1)).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        // Lets the thread go that waits for it.
        std::fs::write(&path, TOKEN).unwrap();
    }
}
