//! How a process takes the place of another without a connection finding nobody there.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;

/// The flags of `tollgate serve` about that.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct HandoverFlags {
    /// Folder of this user, closed to others, in which the listeners pass to the next process on SIGQUIT
    #[arg(long, env = "TOLLGATE_HANDOVER", value_name = "DIR")]
    handover: Option<PathBuf>,

    /// Wait in that folder for the listeners of the running process, in the place of `--listen` and `--admin`
    #[arg(long, env = "TOLLGATE_UPGRADE", value_parser = BoolishValueParser::new(), requires = "handover")]
    upgrade: bool,
}

/// Where listeners pass from process to process, and whether this one begins so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandoverSettings {
    /// A folder with mode 0700.
    pub folder: PathBuf,
    /// Where this process has its own from.
    pub start: StartMode,
}

/// Where a process has its listeners from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartMode {
    /// It binds them.
    Fresh,
    /// It waits for those of the running process.
    Upgrade,
}

impl From<HandoverFlags> for Option<HandoverSettings> {
    fn from(flags: HandoverFlags) -> Self {
        let start = if flags.upgrade { StartMode::Upgrade } else { StartMode::Fresh };
        flags.handover.map(|folder| HandoverSettings { folder, start })
    }
}
