//! Joining the agent of a guest: on ports that are connected already, or by dialling until it listens.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::VmError;
use super::backend::{Monitor, Reach};
use super::channel::{Channel, Connections, Incoming};
use super::firecracker::vsock::Vsock;
use super::guest::Guest;
use crate::protocol::{BULK_VSOCK_PORT, CONTROL_VSOCK_PORT};

/// How long one call may go unanswered before another is made. A call that a guest was too busy to see is lost without a word.
const CALL_LIMIT: Duration = Duration::from_secs(2);

/// Between two calls: an agent that is booting does not listen yet.
const CALL_PAUSE: Duration = Duration::from_millis(5);

/// A monitor with a guest that is attached, before anybody knows who the guest is.
pub(crate) struct Attached {
    pub(crate) monitor: Box<dyn Monitor>,
    pub(crate) guest: Guest,
    pub(crate) bulk: Channel,
    pub(crate) connections: Connections,
}

/// Attaches to both ports of the guest, letting it run if it stands still.
pub(crate) async fn attach(
    mut monitor: Box<dyn Monitor>, reach: Reach, limit: Duration, resume: bool,
) -> Result<Attached, VmError> {
    let ((control, _), (bulk, connections)) = match reach {
        Reach::Connected(ports) => {
            // In between, so that the guest finds our first words when it wakes up.
            let ready = async { if resume { monitor.resume().await } else { Ok(()) } };
            tokio::try_join!(
                Channel::attach(ports.control, Incoming::Refused, limit, ready),
                Channel::attach(ports.bulk, Incoming::Accepted, limit, async { Ok(()) }),
            )?
        }
        Reach::Vsock(vsock) => {
            if resume {
                monitor.resume().await?;
            }
            tokio::try_join!(
                dial(&vsock, CONTROL_VSOCK_PORT, Incoming::Refused, limit),
                dial(&vsock, BULK_VSOCK_PORT, Incoming::Accepted, limit),
            )?
        }
    };
    Ok(Attached { monitor, guest: Guest::new(control), bulk, connections })
}

/// Calls until an agent answers. A guest that wakes up from a snapshot closes every connection, perhaps also one that was just
/// made; so a connection counts only with the agent's answer.
async fn dial(
    vsock: &Vsock, port: u32, incoming: Incoming, limit: Duration,
) -> Result<(Channel, Connections), VmError> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(VmError::TimedOut { what: "the agent's answer", limit });
        }
        let call = left.min(CALL_LIMIT);
        let answered = match vsock.connect(port, call).await {
            Ok(socket) => Channel::attach(socket, incoming, call, async { Ok(()) }).await,
            Err(error) => Err(error),
        };
        match answered {
            Err(VmError::Lost(_) | VmError::TimedOut { .. }) => sleep(CALL_PAUSE).await,
            other => return other,
        }
    }
}
