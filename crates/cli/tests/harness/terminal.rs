//! A terminal that a command runs in, as people see it.

use super::{SOON, until};
use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};

/// A command in a terminal of its own.
pub struct Terminal {
    child: Child,
    keyboard: File,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Held so that its modes can be looked at after the command's end.
    pub screen: File,
}

impl Terminal {
    /// Starts a command with stdin, stdout and stderr in a terminal of 100 columns that controls it.
    pub fn start(command: &Command) -> Terminal {
        let size = Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).unwrap();
        let (keyboard, screen) = (File::from(pair.master), File::from(pair.slave));
        // Ctrl-C becomes a signal only for a session that the terminal belongs to.
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => session.env(name, value),
                None => session.env_remove(name),
            };
        }
        session.stdin(screen.try_clone().unwrap());
        session.stdout(screen.try_clone().unwrap()).stderr(screen.try_clone().unwrap());
        let child = session.spawn().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut read, into) = (keyboard.try_clone().unwrap(), shown.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = read.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Terminal { child, keyboard, shown, screen }
    }

    /// Everything that was shown so far, with what moves the cursor and makes colours.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits until a text was shown.
    pub fn wait_for(&self, text: &str) {
        let begun = std::time::Instant::now();
        while !self.shown().contains(text) {
            assert!(begun.elapsed() < SOON, "no {text:?} in {:?}", self.shown());
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
    }

    /// The process that was started in it.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Types.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the command has ended.
    pub fn end(&mut self) -> ExitStatus {
        until("the command has ended", || self.child.try_wait().unwrap())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
