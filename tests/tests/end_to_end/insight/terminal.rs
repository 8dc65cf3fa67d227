//! A terminal that a test types on and looks at.
//!
//! Owns: the pty, the screen as it is drawn. Does not own: what is typed.

use nix::pty::{Winsize, openpty};
use nix::sys::termios::{Termios, tcgetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stint_tests::{eventually, wait_until};

/// A command on a terminal of its own.
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<vt100::Parser>>,
    /// The side that the command has, kept to see what it leaves behind.
    line: OwnedFd,
    before: Termios,
}

impl Terminal {
    /// Starts `stint` on a terminal of this size.
    pub fn start(servers: &str, arguments: &[&str], (columns, rows): (u16, u16)) -> Terminal {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a pty can be opened");
        let before = tcgetattr(&pty.slave).expect("a pty has modes");
        let side = || pty.slave.try_clone().expect("a descriptor can be cloned");
        let child = Command::new(stint_tests::binary("stint"))
            .args(arguments)
            .env("STINT_SERVER", servers)
            .env("TERM", "xterm-256color")
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .expect("stint can be started");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(cells(rows), cells(columns), 0)));
        let mut output = File::from(pty.master.try_clone().expect("a descriptor can be cloned"));
        let drawn = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Ends with the last descriptor of the other side.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                drawn.lock().expect("nobody panics with it").process(&bytes[..count]);
            }
        });
        Terminal { child, keyboard: File::from(pty.master), screen, line: pty.slave, before }
    }

    pub fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal is there");
    }

    /// What is on the screen.
    pub fn contents(&self) -> String {
        self.screen.lock().expect("nobody panics with it").screen().contents()
    }

    /// Waits until the screen shows something.
    pub fn shows(&self, expected: &str, deadline: Duration) -> String {
        let shown = wait_until(deadline, || Some(self.contents()).filter(|text| text.contains(expected)));
        shown.unwrap_or_else(|| panic!("not within {deadline:?}: {expected:?} on\n{}", self.contents()))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end, and checks that the terminal is as it was. The exit code; 128 + n if a signal ended it.
    pub fn ends(mut self, deadline: Duration) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let status = eventually("the command ends", deadline, || self.child.try_wait().expect("it is ours"));
        assert_eq!(tcgetattr(&self.line).expect("a pty has modes"), self.before, "modes of the terminal");
        // What was written last may not have been drawn yet.
        eventually("the screen is given back", deadline, || {
            let parser = self.screen.lock().expect("nobody panics with it");
            (!parser.screen().alternate_screen() && !parser.screen().hide_cursor()).then_some(())
        });
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }
}

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).expect("a screen has cells")
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
