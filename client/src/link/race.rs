//! Several ways at once: the first that leads there is taken.

use std::{future::Future, net::SocketAddr, time::Duration};

use martlet_proto::link::Address;
use tokio::task::JoinSet;

use super::LinkError;

/// The first attempt that succeeds. The next begins when one has failed or `gap` has passed (RFC 8305); when
/// one has succeeded or the time is over, the others are dropped.
pub(super) async fn race<T, A>(
    mut attempts: impl Iterator<Item = A>,
    gap: Duration,
    wait: Duration,
) -> Result<T, LinkError>
where
    T: Send + 'static,
    A: Future<Output = Result<T, LinkError>> + Send + 'static,
{
    let mut failed = LinkError::Unreachable;
    let mut running = JoinSet::new();
    let mut over = std::pin::pin!(tokio::time::sleep(wait));
    loop {
        match attempts.next() {
            Some(attempt) => drop(running.spawn(attempt)),
            None if running.is_empty() => return Err(failed),
            None => {}
        }
        let ended = tokio::select! {
            () = &mut over => return Err(failed),
            ended = tokio::time::timeout(gap, running.join_next()) => ended,
        };
        match ended {
            Ok(Some(Ok(Ok(made)))) => return Ok(made),
            // That somebody is in between must not be hidden by an address that is down.
            Ok(Some(Ok(Err(error)))) if failed != LinkError::WrongPin => failed = error,
            Ok(Some(Ok(Err(_)) | Err(_)) | None) | Err(_) => {}
        }
    }
}

/// What a name or number stands for.
pub(super) async fn resolve(address: &Address) -> Result<(String, Vec<SocketAddr>), LinkError> {
    Ok(match address {
        Address::V4(ip, port) => (ip.to_string(), vec![SocketAddr::from((*ip, *port))]),
        Address::V6(ip, port) => (ip.to_string(), vec![SocketAddr::from((*ip, *port))]),
        Address::Host(host, port) => {
            let found = tokio::net::lookup_host((host.as_str(), *port))
                .await
                .map_err(|_| LinkError::Unreachable)?;
            (host.clone(), found.collect())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{super::BoxFuture, *};

    type Attempt = BoxFuture<'static, Result<u8, LinkError>>;

    fn silent() -> Attempt {
        Box::pin(std::future::pending())
    }

    fn ended(how: Result<u8, LinkError>) -> Attempt {
        Box::pin(std::future::ready(how))
    }

    const GAP: Duration = Duration::from_millis(250);

    /// Longer than any test may last: what needs it to be over never ends.
    const NEVER: Duration = Duration::from_secs(1 << 20);

    #[tokio::test]
    async fn a_silent_address_does_not_keep_the_others_waiting() {
        let attempts = [
            silent(),
            ended(Err(LinkError::Unreachable)),
            silent(),
            ended(Ok(4)),
        ];
        assert_eq!(race(attempts.into_iter(), GAP, NEVER).await, Ok(4));
    }

    #[tokio::test]
    async fn all_addresses_together_have_one_deadline() {
        let attempts = [ended(Err(LinkError::WrongPin)), silent(), silent()];
        let failed = race(attempts.into_iter(), GAP, GAP).await;
        assert_eq!(failed, Err(LinkError::WrongPin));
    }

    #[tokio::test]
    async fn a_wrong_key_is_told_though_other_addresses_are_down() {
        let attempts = [
            ended(Err(LinkError::WrongPin)),
            ended(Err(LinkError::Unreachable)),
        ];
        assert_eq!(
            race(attempts.into_iter(), GAP, NEVER).await,
            Err(LinkError::WrongPin)
        );
        assert_eq!(
            race([ended(Err(LinkError::Unreachable))].into_iter(), GAP, NEVER).await,
            Err(LinkError::Unreachable)
        );
    }
}
