//! The child's fences: limits, then Landlock without a single rule, then the short list of calls that it may make.

use std::collections::BTreeMap;

use landlock::{ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, Scope};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::{MEMORY_BYTES_MAX, PROCESSOR_TIME_MAX};

type Failure = Box<dyn std::error::Error>;

/// Closes the fences.
pub(super) fn confine() -> Result<(), Failure> {
    for (resource, most) in [
        (Resource::As, MEMORY_BYTES_MAX),
        (Resource::Cpu, PROCESSOR_TIME_MAX.as_secs()),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nproc, 0),
    ] {
        let most = Some(most);
        setrlimit(
            resource,
            Rlimit {
                current: most,
                maximum: most,
            },
        )?;
    }
    // An older kernel has less of it, or none: the filter alone keeps from files and networks, too.
    let _ = landlock();
    let filter: BpfProgram = filter()?.try_into()?;
    seccompiler::apply_filter(&filter)?;
    Ok(())
}

fn landlock() -> Result<(), Failure> {
    let newest = ABI::V6;
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?;
    ruleset.create()?.restrict_self()?;
    Ok(())
}

/// What the child may ask of the kernel; anything else ends it.
fn filter() -> Result<SeccompFilter, Failure> {
    let mut rules = BTreeMap::new();
    for call in [
        libc::SYS_brk,
        libc::SYS_clock_gettime,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_madvise,
        libc::SYS_mremap,
        libc::SYS_munmap,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sched_yield,
        libc::SYS_sigaltstack,
    ] {
        rules.insert(call, Vec::new());
    }
    // Descriptors that came from the parent by accident stay out of reach.
    rules.insert(libc::SYS_read, vec![equal(0, 0)?]);
    rules.insert(libc::SYS_write, vec![equal(0, 1)?, equal(0, 2)?]);
    rules.insert(libc::SYS_writev, vec![equal(0, 1)?, equal(0, 2)?]);
    // Memory of no file, that is never run.
    let fresh = [
        condition(2, SeccompCmpOp::MaskedEq(bits(libc::PROT_EXEC)), 0)?,
        condition(
            3,
            SeccompCmpOp::MaskedEq(bits(libc::MAP_ANONYMOUS)),
            bits(libc::MAP_ANONYMOUS),
        )?,
    ];
    rules.insert(libc::SYS_mmap, vec![SeccompRule::new(fresh.to_vec())?]);
    let never_run = condition(2, SeccompCmpOp::MaskedEq(bits(libc::PROT_EXEC)), 0)?;
    rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(vec![never_run])?]);
    let machine = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        machine,
    )?)
}

fn equal(argument: u8, value: u64) -> Result<SeccompRule, Failure> {
    Ok(SeccompRule::new(vec![condition(
        argument,
        SeccompCmpOp::Eq,
        value,
    )?])?)
}

fn condition(argument: u8, how: SeccompCmpOp, value: u64) -> Result<SeccompCondition, Failure> {
    Ok(SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        how,
        value,
    )?)
}

fn bits(flag: libc::c_int) -> u64 {
    u64::try_from(flag).unwrap_or_default()
}
