//! The passive-client vectors of RFC 9420's working group, for suite 3, through Martlet's crypto provider.
//!
//! They are read from the folder named by `MARTLET_MLS_VECTORS`, or else from `../../shared/vectors/mls`, seen from this
//! crate. Where they are absent, the test says so.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of a test may fail it"
)]
#![expect(clippy::print_stdout, reason = "a test says what it did not run")]

use std::path::PathBuf;

use martlet::mls::Provider;
use martlet_proto::Secret;
use openmls::{
    prelude::{
        Capabilities, Ciphersuite, CredentialWithKey, KeyPackage, KeyPackageBundle,
        MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY, MlsGroup, MlsGroupJoinConfig, MlsMessageBodyIn, MlsMessageIn,
        ProcessedMessageContent, ProtocolMessage, RatchetTreeIn, StagedWelcome, tls_codec::Deserialize as _,
    },
    schedule::{ExternalPsk, PreSharedKeyId, Psk},
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_traits::{OpenMlsProvider as _, storage::StorageProvider as _};
use serde_json::Value;

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519;

#[test]
fn passive_clients_join() {
    run_file("passive-client-welcome-suite3.json");
}

#[test]
fn passive_clients_follow_commits() {
    run_file("passive-client-handling-commit-suite3.json");
}

fn run_file(name: &str) {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/mls");
    let folder = std::env::var_os("MARTLET_MLS_VECTORS").map_or_else(beside, PathBuf::from);
    let Ok(bytes) = std::fs::read(folder.join(name)) else {
        println!("NOT RUN: {name} is not in the folder of vectors; name that folder in MARTLET_MLS_VECTORS");
        return;
    };
    let cases: Vec<Value> = serde_json::from_slice(&bytes).unwrap();
    let cases: Vec<_> = cases.iter().filter(|case| case["cipher_suite"] == 3).collect();
    for case in &cases {
        run(case);
    }
    println!("{name}: {} vectors", cases.len());
    assert!(!cases.is_empty(), "no vector of suite 3 in {name}");
}

fn run(case: &Value) {
    let provider = Provider::new(Secret::new([1; 32]));
    let bundle = bundle(case);
    let reference = bundle.key_package().hash_ref(provider.crypto()).unwrap();
    provider.storage().write_key_package(&reference, &bundle).unwrap();
    for psk in case["external_psks"].as_array().unwrap() {
        let id = Psk::External(ExternalPsk::new(bytes(&psk["psk_id"])));
        let id = PreSharedKeyId::new(SUITE, provider.rand(), id).unwrap();
        id.store(&provider, &bytes(&psk["psk"])).unwrap();
    }
    let mut group = join(case, &provider);
    assert_eq!(
        group.epoch_authenticator().as_slice(),
        bytes(&case["initial_epoch_authenticator"])
    );
    for epoch in case["epochs"].as_array().unwrap() {
        for proposal in epoch["proposals"].as_array().unwrap() {
            match group
                .process_message(&provider, message(proposal))
                .unwrap()
                .into_content()
            {
                ProcessedMessageContent::ProposalMessage(proposal) => {
                    group
                        .store_pending_proposal(provider.storage(), *proposal)
                        .unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        match group
            .process_message(&provider, message(&epoch["commit"]))
            .unwrap()
            .into_content()
        {
            ProcessedMessageContent::StagedCommitMessage(commit) => {
                group.merge_staged_commit(&provider, *commit).unwrap();
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(
            group.epoch_authenticator().as_slice(),
            bytes(&epoch["epoch_authenticator"])
        );
    }
}

fn join(case: &Value, provider: &Provider) -> MlsGroup {
    let message = MlsMessageIn::tls_deserialize_exact(bytes(&case["welcome"])).unwrap();
    let MlsMessageBodyIn::Welcome(welcome) = message.extract() else {
        panic!("not a welcome")
    };
    let config = MlsGroupJoinConfig::builder()
        .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .number_of_resumption_psks(16)
        .max_past_epochs(16)
        .build();
    let mut builder = StagedWelcome::build_from_welcome(provider, &config, welcome)
        .unwrap()
        .skip_lifetime_validation();
    if let Some(tree) = case["ratchet_tree"].as_str() {
        let tree = RatchetTreeIn::tls_deserialize_exact(hex::decode(tree).unwrap()).unwrap();
        builder = builder.with_ratchet_tree(tree);
    }
    builder.build().unwrap().into_group(provider).unwrap()
}

/// The vector's key package with its private keys. OpenMLS has no constructor for one and would refuse its lifetime,
/// which ended in 2024, so one of our own is written out, its fields replaced, and read back.
fn bundle(case: &Value) -> KeyPackageBundle {
    let message = MlsMessageIn::tls_deserialize_exact(bytes(&case["key_package"])).unwrap();
    let MlsMessageBodyIn::KeyPackage(package) = message.extract() else {
        panic!("not a key package")
    };
    let package: KeyPackage = serde_json::from_value(serde_json::to_value(&package).unwrap()).unwrap();
    let signer = SignatureKeyPair::new(SUITE.signature_algorithm()).unwrap();
    let identity = CredentialWithKey {
        credential: package.leaf_node().credential().clone(),
        signature_key: signer.public().into(),
    };
    let template = KeyPackage::builder()
        .leaf_node_capabilities(Capabilities::new(None, Some(&[SUITE]), None, None, None))
        .build(SUITE, &Provider::new(Secret::new([2; 32])), &signer, identity)
        .unwrap();
    let mut value = serde_json::to_value(&template).unwrap();
    value["key_package"] = serde_json::to_value(&package).unwrap();
    assert!(replace(
        &mut value["private_init_key"],
        &bytes(&case["init_priv"])
    ));
    assert!(replace(
        &mut value["private_encryption_key"],
        &bytes(&case["encryption_priv"])
    ));
    serde_json::from_value(value).unwrap()
}

/// Replaces the innermost list of bytes.
fn replace(value: &mut Value, with: &[u8]) -> bool {
    match value {
        Value::Array(list) if !list.is_empty() && list.iter().all(Value::is_u64) => {
            *value = Value::from(with.to_vec());
            true
        }
        Value::Array(list) => list.iter_mut().any(|item| replace(item, with)),
        Value::Object(fields) => fields.values_mut().any(|item| replace(item, with)),
        _ => false,
    }
}

fn message(value: &Value) -> ProtocolMessage {
    MlsMessageIn::tls_deserialize_exact(bytes(value))
        .unwrap()
        .try_into_protocol_message()
        .unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}
