//! The keys that have no effect here, each with its reason.
//!
//! What would silently lose safety or security is an error; the rest is a warning, or nothing at
//! all when a server that stands alone is right to leave it.

use super::{
    keys::key,
    table::{Effect, Key, Severity, Shape},
};

const NO_REVOCATION: &str = "revoked certificates are not looked up in this version: take them out \
                             of use by a new authority in the trust store";
const NO_JAVA_CLASSES: &str = "Java classes are not loaded";
// CVE-2026-24281: whoever answers for an address decides what its name is.
const NO_REVERSE_DNS: &str = "the name of an address is never asked for; certificates must have the \
                              names or addresses that server.N has";
const NO_KERBEROS: &str = "Kerberos is not built; SASL here is DIGEST-MD5";
const CLIENTS_SASL: &str = "it is for clients that are Java processes";
const NO_THROTTLE: &str =
    "requests are not throttled this way in this version; globalOutstandingLimit limits them";

pub(super) static KEYS: &[Key] = &[
    // Of an ensemble only, where they tune what here needs no tuning.
    key(
        "quorum.cnxn.threads.size",
        "",
        Effect::Ensemble(Shape::Count),
    ),
    key("maxConcurrentSnapSyncs", "", Effect::Ensemble(Shape::Count)),
    key("maxConcurrentDiffSyncs", "", Effect::Ensemble(Shape::Count)),
    key(
        "observer.reconnectDelayMs",
        "",
        Effect::Ensemble(Shape::Count),
    ),
    key(
        "observer.election.DelayMs",
        "",
        Effect::Ensemble(Shape::Count),
    ),
    key(
        "multiAddress.reachabilityCheckTimeoutMs",
        "",
        Effect::Ensemble(Shape::Count),
    ),
    key(
        "leader.maxConcurrentSnapshots",
        "",
        Effect::Ensemble(Shape::Count),
    ),
    key(
        "leader.maxConcurrentSnapshotTimeout",
        "",
        Effect::Ensemble(Shape::Count),
    ),
    key(
        "leader.maxTimeToWaitForEpoch",
        "",
        Effect::Ensemble(Shape::Count),
    ),
    key(
        "learner.maxRequestRetries",
        "",
        Effect::Ensemble(Shape::Count),
    ),
    key(
        "leaderConnectDelayDuringRetryMs",
        "",
        Effect::Ensemble(Shape::Count),
    ),
    key(
        "observerMaster.sizeLimit",
        "",
        Effect::Ensemble(Shape::Count),
    ),
    key("snapshotSizeFactor", "", Effect::Ensemble(Shape::Any)),
    key("forceSnapshotSync", "", Effect::Ensemble(Shape::Switch)),
    key("syncEnabled", "", Effect::Ensemble(Shape::Switch)),
    key(
        "multiAddress.reachabilityCheckEnabled",
        "",
        Effect::Ensemble(Shape::Switch),
    ),
    key("learner.asyncSending", "", Effect::Ensemble(Shape::Switch)),
    key(
        "learner.closeSocketAsync",
        "",
        Effect::Ensemble(Shape::Switch),
    ),
    key(
        "leader.closeSocketAsync",
        "",
        Effect::Ensemble(Shape::Switch),
    ),
    key("enableEagerACLCheck", "", Effect::Ensemble(Shape::Switch)),
    key("follower.nodelay", "", Effect::Ensemble(Shape::Switch)),
    key("leader.nodelay", "", Effect::Ensemble(Shape::Switch)),
    key("learner.*", "", Effect::Ensemble(Shape::Any)),
    key("version", "", Effect::Ensemble(Shape::Any)),
    // What of TLS is not built, where going without it would weaken what was asked for.
    key("ssl.crl", "", refused(&["false"], NO_REVOCATION)),
    key("ssl.ocsp", "", refused(&["false"], NO_REVOCATION)),
    key("ssl.quorum.crl", "", refused(&["false"], NO_REVOCATION)),
    key("ssl.quorum.ocsp", "", refused(&["false"], NO_REVOCATION)),
    key("ssl.tcnative.ocsp", "", refused(&["false"], NO_REVOCATION)),
    key(
        "ssl.context.supplier.class",
        "",
        refused(&[], NO_JAVA_CLASSES),
    ),
    key(
        "ssl.quorum.context.supplier.class",
        "",
        refused(&[], NO_JAVA_CLASSES),
    ),
    key("ssl.authProvider", "", refused(&["x509"], NO_JAVA_CLASSES)),
    key(
        "ssl.clientHostnameVerification",
        "",
        refused(
            &["false"],
            "clients are not checked for where they come from, only for whom their certificates \
             name",
        ),
    ),
    key(
        "ssl.quorum.clientHostnameVerification",
        "",
        warned(
            &[],
            "ssl.quorum.hostnameVerification decides for both sides",
        ),
    ),
    key(
        "ssl.allowReverseDnsLookup",
        "",
        warned(&["false"], NO_REVERSE_DNS),
    ),
    key(
        "ssl.quorum.allowReverseDnsLookup",
        "",
        warned(&["false"], NO_REVERSE_DNS),
    ),
    key(
        "ssl.sslProvider",
        "",
        warned(&["JDK"], "there is one implementation of TLS, rustls"),
    ),
    key(
        "fips-mode",
        "",
        warned(
            &["false"],
            "the cryptography of this build is not validated by FIPS 140; versions and cipher \
             suites are set by ssl.enabledProtocols and ssl.ciphersuites",
        ),
    ),
    // Ways to authenticate that are not here.
    key("quorum.auth.*", "", warned(&[], NO_KERBEROS)),
    key("kerberos.*", "", warned(&[], NO_KERBEROS)),
    key("sasl.*", "", warned(&[], CLIENTS_SASL)),
    key(
        "ensembleAuthName",
        "",
        warned(
            &[],
            "the ensemble authentication provider is not built yet in this version",
        ),
    ),
    key(
        "DigestAuthenticationProvider.digestAlg",
        "",
        refused(
            &["SHA1", "SHA-1"],
            "digests other than SHA1 are not built yet in this version, and users of \
             another digest could not log in",
        ),
    ),
    // What is in the data or how it is stored.
    key(
        "emulate353TTLNodes",
        "",
        refused(
            &["false"],
            "the TTL znodes of ZooKeeper 3.5.3 are not understood, and would be taken for \
             ephemeral ones",
        ),
    ),
    key(
        "forceSync",
        "",
        warned(
            &["yes"],
            "every transaction is on disk before it is acknowledged; that cannot be switched off",
        ),
    ),
    key(
        "serializeLastProcessedZxid.enabled",
        "",
        warned(
            &["true"],
            "snapshots always say up to which transaction they go",
        ),
    ),
    key(
        "closeSessionTxn.enabled",
        "",
        warned(
            &["true"],
            "the end of a session always lists the znodes that it deletes",
        ),
    ),
    // Parts of an ensemble that would change what the server is.
    key(
        "oraclePath",
        "",
        refused(
            &[],
            "oracles are not built yet in this version, and without one this server would go on \
             where its oracle stops it, or stop where it goes on",
        ),
    ),
    key(
        "electionAlg",
        "",
        refused(&["3"], "ZooKeeper has only the election algorithm 3"),
    ),
    // Not built yet, and nothing is less safe without it.
    key(
        "observerMasterPort",
        "",
        warned(
            &["0"],
            "followers do not serve observers yet in this version; observers find the leader",
        ),
    ),
    key(
        "request_throttle_max_requests",
        "",
        warned(&[], NO_THROTTLE),
    ),
    key("request_throttle_stall_time", "", warned(&[], NO_THROTTLE)),
    key("request_throttle_drop_stale", "", warned(&[], NO_THROTTLE)),
    key("request_stale_latency_check", "", warned(&[], NO_THROTTLE)),
    key(
        "request_stale_connection_check",
        "",
        warned(&[], NO_THROTTLE),
    ),
    key("throttled_op_wait_time", "", warned(&[], NO_THROTTLE)),
    key(
        "request_throttler.shutdownTimeout",
        "",
        warned(&[], NO_THROTTLE),
    ),
    key(
        "connection_throttle_*",
        "",
        warned(
            &[],
            "connections are not throttled in this version; maxCnxns and maxClientCnxns limit them",
        ),
    ),
    key("largeRequestThreshold", "", warned(&[], NO_THROTTLE)),
    key("largeRequestMaxBytes", "", warned(&[], NO_THROTTLE)),
    // Of the JVM or of the inside of ZooKeeper.
    key("jvm.*", "", warned(&[], "there is no JVM here")),
    key("jmx.*", "", warned(&[], "there is no JVM here")),
    key(
        "serverCnxnFactory",
        "",
        warned(&[], "there is one network layer, which needs no tuning"),
    ),
    key(
        "netty.*",
        "",
        warned(&[], "there is one network layer, which needs no tuning"),
    ),
    key(
        "nio.*",
        "",
        warned(&[], "there is one network layer, which needs no tuning"),
    ),
    key(
        "client.*",
        "",
        warned(&[], "there is one network layer, which needs no tuning"),
    ),
    key(
        "clientCnxnSocket",
        "",
        warned(&[], "there is one network layer, which needs no tuning"),
    ),
    key(
        "commitProcessor.*",
        "",
        warned(
            &[],
            "requests run through one pipeline, which needs no tuning",
        ),
    ),
    key(
        "forward_learner_requests_to_commit_processor_disabled",
        "",
        warned(
            &[],
            "requests run through one pipeline, which needs no tuning",
        ),
    ),
    key(
        "intBufferStartingSizeBytes",
        "",
        warned(
            &[],
            "requests run through one pipeline, which needs no tuning",
        ),
    ),
    key(
        "flushDelay",
        "",
        warned(
            &[],
            "whatever waits for the disk shares the next fsync, without any delay",
        ),
    ),
    key(
        "maxWriteQueuePollTime",
        "",
        warned(
            &[],
            "whatever waits for the disk shares the next fsync, without any delay",
        ),
    ),
    key(
        "maxBatchSize",
        "",
        warned(
            &[],
            "whatever waits for the disk shares the next fsync, without any delay",
        ),
    ),
    key(
        "maxResponseCacheSize",
        "",
        warned(&[], "replies are not cached"),
    ),
    key(
        "maxGetChildrenResponseCacheSize",
        "",
        warned(&[], "replies are not cached"),
    ),
    key(
        "watchManagerName",
        "",
        warned(
            &[],
            "there is one kind of watch table, which needs no cleaning",
        ),
    ),
    key(
        "watcherCleanThreadsNum",
        "",
        warned(
            &[],
            "there is one kind of watch table, which needs no cleaning",
        ),
    ),
    key(
        "watcherCleanIntervalInSeconds",
        "",
        warned(
            &[],
            "there is one kind of watch table, which needs no cleaning",
        ),
    ),
    key(
        "watcherCleanThreshold",
        "",
        warned(
            &[],
            "there is one kind of watch table, which needs no cleaning",
        ),
    ),
    key(
        "maxInProcessingDeadWatchers",
        "",
        warned(
            &[],
            "there is one kind of watch table, which needs no cleaning",
        ),
    ),
    key(
        "bitHashCacheSize",
        "",
        warned(
            &[],
            "there is one kind of watch table, which needs no cleaning",
        ),
    ),
    key(
        "messageTracker.*",
        "",
        warned(&[], "it is for debugging ZooKeeper itself"),
    ),
    key(
        "skipTxnEnabled",
        "",
        warned(&[], "it is for debugging ZooKeeper itself"),
    ),
    key(
        "pathStats.*",
        "",
        warned(&[], "it is for debugging ZooKeeper itself"),
    ),
    key(
        "request.timeout",
        "",
        warned(&[], "it is a setting of clients"),
    ),
    key(
        "disableAutoWatchReset",
        "",
        warned(&[], "it is a setting of clients"),
    ),
    key(
        "server.principal",
        "",
        warned(&[], "it is a setting of clients"),
    ),
    key(
        "server.realm",
        "",
        warned(&[], "it is a setting of clients"),
    ),
    key(
        "shuffleDnsResponse",
        "",
        warned(&[], "it is a setting of clients"),
    ),
    key(
        "snapshot.trust.empty",
        "false",
        warned(
            &["false"],
            "a log without a snapshot is believed only if it begins with the first transaction of all",
        ),
    ),
];

const fn refused(fine: &'static [&'static str], why: &'static str) -> Effect {
    Effect::Fixed {
        fine,
        severity: Severity::Error,
        why,
    }
}

const fn warned(fine: &'static [&'static str], why: &'static str) -> Effect {
    Effect::Fixed {
        fine,
        severity: Severity::Warning,
        why,
    }
}
