//! Named points at which a test can kill the process or break it on purpose; empty in every build without the feature.

/// Every point, in the order in which an upload, its conversion and its mail pass them. The kill suite walks this list.
pub const POINTS: [&str; 25] = [
    "upload.recorded",
    "upload.first_bytes_written",
    "upload.written",
    "video.durable",
    "video.visible",
    "upload.committed",
    "upload.queued",
    "relay.published",
    "conversion.told",
    "conversion.claimed",
    "conversion.intended",
    "conversion.first_bytes_written",
    "conversion.beaten",
    "conversion.written",
    "mp3.durable",
    "mp3.visible",
    "conversion.committed",
    "conversion.verified",
    "conversion.converted",
    "conversion.ended",
    "sweeper.deleted",
    "mail.told",
    "mail.claimed",
    "mail.delivered",
    "mail.sent",
];

/// Kills this process with SIGKILL if the test that started it named this point.
#[cfg(feature = "failpoints")]
pub fn reach(point: &str) {
    debug_assert!(POINTS.contains(&point), "{point} is missing from the list of points");
    if std::env::var("TAPEDECK_KILL_AT").is_ok_and(|at| at == point) {
        if let Ok(witness) = std::env::var("TAPEDECK_KILL_WITNESS") {
            // The witness proves to the test that the process died here and nowhere else.
            let _ = std::fs::write(witness, point);
        }
        // SAFETY: raising a signal has no memory effects; SIGKILL does not return.
        unsafe { libc::raise(libc::SIGKILL) };
    }
}

/// In a build without the feature a point is nothing.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reach(_point: &str) {}

/// Is the process to be broken in this way? A suite that stays green on a broken build proves nothing.
#[cfg(feature = "failpoints")]
pub fn sabotaged(way: &str) -> bool {
    std::env::var("TAPEDECK_SABOTAGE").is_ok_and(|chosen| chosen == way)
}

/// In a build without the feature nothing is broken on purpose.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn sabotaged(_way: &str) -> bool {
    false
}
