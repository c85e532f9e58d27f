//! What the relay takes from itself before it listens to anybody: the files outside of its folder (landlock), and the
//! system calls by which a program that was broken into goes on (seccomp): starting programs, connecting to others,
//! tracing, mounting, loading into the kernel.
//!
//! Both bind the thread that asks for them and all that it starts, so it must be the only one when it asks. Where the
//! system does not enforce them the relay does not start, unless `martletd.toml` says so.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Why the relay is not confined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    #[error("landlock is not enforced: {0}")]
    Landlock(#[from] RulesetError),
    #[error("landlock is not enforced by this system")]
    NoLandlock,
    #[error("{0} cannot be opened: {1}")]
    Folder(PathBuf, landlock::PathFdError),
    #[error("seccomp is not enforced: {0}")]
    Seccomp(#[from] seccompiler::Error),
    #[error("seccomp has no filter for this machine: {0}")]
    Filter(#[from] seccompiler::BackendError),
}

/// What every kernel with landlock knows, and must enforce.
const NEEDED: ABI = ABI::V1;
/// What newer kernels know beyond it, and enforce where they do.
const WANTED: ABI = ABI::V6;

/// System calls that the relay never makes once it runs. They fail with EPERM.
const NEVER: &[i64] = &[
    // Starting programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Reaching others: the relay answers on sockets that it has.
    libc::SYS_connect,
    // Looking into other processes, and being looked into.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    // Other views of files and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // The kernel's own.
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_personality,
    // The machine's clock and name.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
];

/// Confines this thread, and those that it starts, to a folder; of `sockets` it may only make and remove some.
///
/// # Errors
///
/// [`SandboxError`] if any of it is not enforced.
pub(crate) fn enter(folder: &Path, sockets: Option<&Path>) -> Result<(), SandboxError> {
    confine_files(folder, sockets)?;
    let filter: BpfProgram = SeccompFilter::new(
        NEVER
            .iter()
            .map(|call| (*call, Vec::new()))
            .collect::<BTreeMap<_, _>>(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()?;
    Ok(seccompiler::apply_filter(&filter)?)
}

fn confine_files(folder: &Path, sockets: Option<&Path>) -> Result<(), SandboxError> {
    let all = AccessFs::from_all(WANTED);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(NEEDED))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .handle_access(AccessNet::ConnectTcp)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?
        .add_rule(beneath(folder, all & !AccessFs::Execute)?)?;
    if let Some(sockets) = sockets {
        rules = rules.add_rule(beneath(sockets, AccessFs::MakeSock | AccessFs::RemoveFile)?)?;
    }
    match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err(SandboxError::NoLandlock),
    }
}

fn beneath(path: &Path, access: BitFlags<AccessFs>) -> Result<PathBeneath<PathFd>, SandboxError> {
    let open = PathFd::new(path).map_err(|error| SandboxError::Folder(path.to_path_buf(), error))?;
    Ok(PathBeneath::new(open, access))
}

#[cfg(test)]
mod tests {
    use std::{
        io::ErrorKind,
        net::{TcpListener, TcpStream, UdpSocket},
        process::Command,
    };

    use super::*;

    /// In a thread of its own, for what is taken is not given back.
    fn apart(test: impl FnOnce() + Send + 'static) {
        std::thread::spawn(test).join().unwrap();
    }

    fn denied<T>(done: std::io::Result<T>) -> bool {
        done.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn only_the_folder_is_left() {
        apart(|| {
            let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let elsewhere = other.path().join("file");
            std::fs::write(&elsewhere, "old").unwrap();
            std::os::unix::fs::symlink(&elsewhere, folder.path().join("way out")).unwrap();
            enter(folder.path(), None).unwrap();
            std::fs::create_dir(folder.path().join("store")).unwrap();
            std::fs::write(folder.path().join("store/new"), "new").unwrap();
            std::fs::rename(folder.path().join("store/new"), folder.path().join("moved")).unwrap();
            assert_eq!(std::fs::read(folder.path().join("moved")).unwrap(), b"new");
            assert!(denied(std::fs::read("/etc/passwd")));
            assert!(denied(std::fs::read_dir("/")));
            assert!(denied(std::fs::read(&elsewhere)));
            assert!(denied(std::fs::write(folder.path().join("way out"), "changed")));
            assert!(denied(std::fs::write(other.path().join("another"), "made")));
        });
    }

    #[test]
    fn of_the_folder_for_sockets_only_sockets() {
        apart(|| {
            let (folder, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            enter(folder.path(), Some(run.path())).unwrap();
            let socket = run.path().join("metrics.sock");
            std::os::unix::net::UnixListener::bind(&socket).unwrap();
            std::fs::remove_file(&socket).unwrap();
            assert!(denied(std::fs::write(run.path().join("file"), "made")));
        });
    }

    #[test]
    fn no_program_is_started_and_nobody_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        apart(move || {
            let folder = tempfile::tempdir().unwrap();
            assert!(TcpStream::connect(there).is_ok());
            enter(folder.path(), None).unwrap();
            assert!(denied(TcpStream::connect(there)));
            assert!(denied(Command::new("true").status()));
            assert!(denied(
                UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.connect(there))
            ));
            assert!(UdpSocket::bind("127.0.0.1:0").is_ok());
            let of_a_thread = std::thread::spawn(move || denied(TcpStream::connect(there)));
            assert!(of_a_thread.join().unwrap());
        });
    }

    #[test]
    fn where_landlock_is_missing_it_is_not_pretended() {
        apart(|| {
            let folder = tempfile::tempdir().unwrap();
            let missing: BpfProgram = SeccompFilter::new(
                [(libc::SYS_landlock_create_ruleset, Vec::new())].into(),
                SeccompAction::Allow,
                SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
                std::env::consts::ARCH.try_into().unwrap(),
            )
            .unwrap()
            .try_into()
            .unwrap();
            seccompiler::apply_filter(&missing).unwrap();
            assert!(enter(folder.path(), None).is_err());
        });
    }
}
