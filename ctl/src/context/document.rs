//! One context: where a cluster is, and what to show there. The same document is stored, exported
//! and handed out for a new client.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Longest document that is read, in bytes.
pub(super) const LEN_MAX: u64 = 256 * 1024;

/// A context as it is written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Document {
    /// What people call it; where it is stored under another name, that one counts.
    pub(crate) name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
    /// Where to ask.
    #[serde(flatten)]
    pub(crate) way: Way,
}

/// Where to ask.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Way {
    /// A daemon on this machine.
    #[serde(rename_all = "PascalCase")]
    Socket {
        /// `unix:///path`.
        host: String,
    },
    /// Managers elsewhere.
    #[serde(rename_all = "PascalCase")]
    Remote {
        /// `host:port` of each.
        managers: Vec<String>,
        /// PEM bundle of the cluster's roots.
        root: String,
        /// The client certificate, as PEM.
        certificate: String,
        /// Its key, as PEM: whoever has it is this client.
        key: String,
    },
}

impl Document {
    /// Reads a document and checks that its parts fit.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let document: Self = serde_json::from_str(text)
            .map_err(|error| Error::Failed(format!("this is not a context: {error}")))?;
        document.check()?;
        Ok(document)
    }

    /// The document as text.
    pub(crate) fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("names and texts are JSON");
        text.push('\n');
        text
    }

    /// Checks that what it names can be used, without asking anybody.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.way {
            Way::Socket { host } => crate::connect::socket_path(host).map(drop),
            Way::Remote { managers, .. } if managers.is_empty() => Err(Error::Failed(format!(
                "context {} names no manager to ask",
                self.name
            ))),
            Way::Remote { .. } => self.way.credential().map(drop),
        }
    }

    /// What it points to, for lists.
    pub(crate) fn endpoint(&self) -> String {
        match &self.way {
            Way::Socket { host } => host.clone(),
            Way::Remote { managers, .. } => managers.join(","),
        }
    }

    /// Role and end of the certificate, when it has one that can be read.
    pub(crate) fn identity(&self) -> Option<ca::ClientIdentity> {
        let credential = self.way.credential().ok()??;
        Some(credential.identity())
    }
}

impl Way {
    /// What to show to managers elsewhere; none for a socket.
    pub(crate) fn credential(&self) -> Result<Option<ca::ClientCredential>, Error> {
        let Self::Remote {
            root,
            certificate,
            key,
            ..
        } = self
        else {
            return Ok(None);
        };
        let broken =
            |error: ca::Error| Error::Failed(format!("the context cannot be used: {error}"));
        let key = ca::PrivateKey::from_pem(key).map_err(broken)?;
        let roots = ca::RootBundle::from_pem(root.as_str()).map_err(broken)?;
        let credential = ca::ClientCredential::new(&key, certificate, &roots).map_err(broken)?;
        Ok(Some(credential))
    }
}

impl std::fmt::Debug for Document {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Document")
            .field("name", &self.name)
            .field("endpoint", &self.endpoint())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_a_context() {
        let text = r#"{"Name":"here","Host":"unix:///run/x.sock"}"#;
        let document = Document::parse(text).unwrap();
        assert_eq!(document.endpoint(), "unix:///run/x.sock");
        let again = Document::parse(&document.text()).unwrap();
        assert_eq!(again.name, "here");
    }

    #[test]
    fn what_cannot_work_is_refused_in_words() {
        for (text, words) in [
            ("", "not a context"),
            ("{}", "not a context"),
            (r#"{"Name":"a"}"#, "not a context"),
            (r#"{"Name":"a","Host":"tcp://1.2.3.4"}"#, "tcp://1.2.3.4"),
            (
                r#"{"Name":"a","Managers":[],"Root":"","Certificate":"","Key":""}"#,
                "names no manager",
            ),
            (
                r#"{"Name":"a","Managers":["m:1"],"Root":"","Certificate":"","Key":""}"#,
                "cannot be used",
            ),
        ] {
            let error = Document::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
