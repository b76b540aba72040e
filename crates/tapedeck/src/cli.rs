//! The command line.

use crate::convert::Wishes;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{fmt, net::SocketAddr, path::PathBuf};

/// Turns videos into MP3s, and tells their owners when they are ready.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, subcommand_required = true, arg_required_else_help = true)]
#[command(
    after_help = "First steps:\n  tapedeck convert talk.mp4          one file, here and now, without any server\n  tapedeck serve                     the page at http://127.0.0.1:8080, all in one process\n  tapedeck user add you@example.com  an account for it"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub place: Place,
}

/// Where data and configuration are.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The folder that holds everything: records, videos, MP3s, mails, the secret, and config.toml if there is one
    #[arg(long, value_name = "DIR", global = true, env = "TAPEDECK_DATA", default_value = "data")]
    pub data: PathBuf,
    /// A configuration file; without it, config.toml in the data folder where there is one
    #[arg(long, value_name = "FILE", global = true, env = "TAPEDECK_CONFIG")]
    pub config: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the page, the API and the conversions, until Ctrl-C
    Serve(Serve),
    /// Convert files here and now, without a server
    Convert(Convert),
    /// Add, list and remove users, and set their passwords
    #[command(subcommand)]
    User(UserCommand),
    /// Check the configuration, or show what it amounts to
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Ask a running Tapedeck whether it is ready: exit code 0 or 1
    Healthcheck(Healthcheck),
    /// Make the tables that Tapedeck needs beside the originals' (MySQL); what is there already stays as it is
    Migrate,
    /// Give MP3s that no record names, because original services made them, to an owner
    Adopt(Adopt),
    /// Connect to each configured backend, and say in words what is wrong with it
    Doctor,
}

/// One of the four services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Role {
    /// The page, uploads, downloads, the API.
    Gateway,
    /// Sign-in and tokens.
    Auth,
    /// Conversions.
    Converter,
    /// Mails.
    Notification,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Gateway => "gateway",
            Role::Auth => "auth",
            Role::Converter => "converter",
            Role::Notification => "notification",
        })
    }
}

/// `tapedeck serve`
#[derive(Debug, Args)]
#[command(
    after_help = "The first Ctrl-C (or SIGTERM) lets what is in hand finish, for server.grace at most; the second stops at once. Nothing accepted is lost either way.\n\nFour processes on one data folder:\n  tapedeck serve --roles auth\n  tapedeck serve --roles gateway\n  tapedeck serve --roles converter\n  tapedeck serve --roles notification"
)]
pub struct Serve {
    /// Which services this process runs; more processes on the same data folder run the others
    #[arg(
        long,
        value_name = "ROLE,…",
        value_delimiter = ',',
        default_value = "gateway,auth,converter,notification"
    )]
    pub roles: Vec<Role>,
    /// Where to listen; port 0 takes any free one
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Start with a JWT secret of under 32 bytes, as long as an original service shares it
    #[arg(long)]
    pub allow_weak_secret: bool,
}

/// `tapedeck convert`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all converted; 1 a file cannot be converted, or has no peaks; 2 wrong usage; 3 the MP3 (or the file of peaks) exists already; 4 a file cannot be read or written; 130 interrupted. With several files the first failure's code; the others are converted all the same.\n\nAn MP3 appears when it is whole, or not at all."
)]
pub struct Convert {
    /// Videos (or sound files) to convert
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where to write; without it, beside the file with the ending .mp3. With several files: a folder
    #[arg(short, long, value_name = "MP3")]
    pub output: Option<PathBuf>,
    /// Write the peaks for a picture of the waveform, too: JSON as audiowaveform makes it, for peaks.js, wavesurfer.js and others. With several files: a folder
    #[arg(long, value_name = "JSON")]
    pub peaks: Option<PathBuf>,
    /// Files that are converted at once. Without it: one for each processor
    #[arg(short, long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    pub jobs: usize,
    /// Threads that encode each file; the MP3 is the same for any number. Without it: all processors, shared by the files that are converted at once
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    pub threads: usize,
    /// Where the kernel lacks a layer of the engine's sandbox: required (convert nothing) or best-effort (convert without it)
    #[arg(long, default_value_t, value_name = "HOW")]
    pub sandbox: engine::Sandbox,
    /// Overwrite an MP3 (and a file of peaks) that exists
    #[arg(short, long)]
    pub force: bool,
    /// No progress, no summary: errors alone
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub wishes: Wishes,
}

/// `tapedeck user`
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user; asks for the password
    Add {
        /// The e-mail, which is also the name to sign in with
        email: String,
        /// An administrator: shown in lists and tokens; the page makes no difference yet
        #[arg(long)]
        admin: bool,
        /// Read the password from standard input, one line
        #[arg(long)]
        password_stdin: bool,
    },
    /// List all users
    List,
    /// Set a user's password
    Passwd {
        /// The user's e-mail
        email: String,
        /// Read the password from standard input, one line
        #[arg(long)]
        password_stdin: bool,
    },
    /// Remove a user, and all of that user's videos and MP3s
    Remove {
        /// The user's e-mail
        email: String,
        /// Do not ask, as a terminal is asked otherwise
        #[arg(long)]
        yes: bool,
    },
}

/// `tapedeck adopt`
#[derive(Debug, Args)]
pub struct Adopt {
    /// The e-mail of the user who shall have them
    #[arg(long, value_name = "EMAIL")]
    pub owner: String,
    /// The MP3s' ids, 24 hex digits each
    #[arg(required = true, value_name = "FID")]
    pub mp3s: Vec<String>,
}

/// `tapedeck config`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Name every mistake in the configuration
    Check,
    /// Print the configuration in force, secrets hidden
    Show,
}

/// `tapedeck healthcheck`
#[derive(Debug, Args)]
pub struct Healthcheck {
    /// The address that `serve` listens on; without it, the configured one
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
}
