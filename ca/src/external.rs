//! Asks a certificate authority outside the swarm for signatures, as CloudFlare's cfssl takes them:
//! JSON over HTTPS, with this manager's certificate as proof of who asks (S11.11).

use std::time::Duration;

use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::{CA_NAME, RootBundle, Subject, Tls, organizational_unit};
use types::NodeRole;

/// Longest time for one request, connection included (SwarmKit, S11.11).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer that is read, in bytes. A chain has some thousand.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Profile asked for when a root is to be vouched for (SwarmKit `ExternalCrossSignProfile`).
const CROSS_SIGN_PROFILE: &str = "CA";

/// Why an external authority did not sign.
#[derive(Debug, thiserror::Error)]
pub enum ExternalError {
    /// Not an address of one.
    #[error("{url:?} is not the address of an external CA: {why}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// No connection.
    #[error("external CA {url}")]
    Connect {
        /// The authority.
        url: String,
        /// The reason.
        #[source]
        source: crate::tls::Error,
    },
    /// The request broke off.
    #[error("external CA {url}: {why}")]
    Request {
        /// The authority.
        url: String,
        /// The reason.
        why: String,
    },
    /// It answered, but not with a certificate.
    #[error("external CA {url} refused: {why}")]
    Refused {
        /// The authority.
        url: String,
        /// Its words.
        why: String,
    },
    /// No answer in time.
    #[error("external CA {url} gave no answer within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout {
        /// The authority.
        url: String,
    },
}

/// One external authority.
#[derive(Clone, Debug)]
pub struct ExternalCa<'a> {
    /// `https://host[:port]/path`.
    pub url: &'a str,
    /// Profile to sign by; empty for its default.
    pub profile: &'a str,
    /// Roots its own certificate may lead to.
    pub roots: RootBundle,
}

#[derive(Serialize)]
struct Ask<'a> {
    certificate_request: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    profile: &'a str,
    hosts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<AskSubject>,
}

#[derive(Serialize)]
struct AskSubject {
    #[serde(rename = "CN")]
    common_name: String,
    names: Vec<AskName>,
}

#[derive(Serialize)]
struct AskName {
    #[serde(rename = "O")]
    organization: String,
    #[serde(rename = "OU")]
    unit: &'static str,
}

#[derive(Deserialize)]
struct Answer {
    success: bool,
    result: Option<AnswerResult>,
    #[serde(default)]
    errors: Vec<AnswerError>,
}

#[derive(Deserialize)]
struct AnswerResult {
    certificate: String,
}

#[derive(Deserialize)]
struct AnswerError {
    message: String,
}

impl ExternalCa<'_> {
    /// Has a node's certificate signed. What comes back is not checked here.
    ///
    /// # Errors
    /// Nobody answers in time, or with something else than a certificate.
    pub async fn sign(
        &self,
        tls: &Tls,
        csr_pem: &str,
        subject: &Subject,
    ) -> Result<String, ExternalError> {
        let unit = organizational_unit(subject.role);
        let node_id = subject.node_id.to_string();
        let mut hosts = vec![unit.to_owned(), node_id.clone()];
        if subject.role == NodeRole::Manager {
            hosts.push(CA_NAME.to_owned());
        }
        let ask = Ask {
            certificate_request: csr_pem,
            profile: self.profile,
            hosts,
            subject: Some(AskSubject {
                common_name: node_id,
                names: vec![AskName {
                    organization: subject.cluster_id.to_string(),
                    unit,
                }],
            }),
        };
        self.post(tls, &ask).await
    }

    /// Has another root vouched for; `csr_pem` is that root's own request.
    ///
    /// # Errors
    /// As for [`ExternalCa::sign`].
    pub async fn cross_sign(&self, tls: &Tls, csr_pem: &str) -> Result<String, ExternalError> {
        let ask = Ask {
            certificate_request: csr_pem,
            profile: CROSS_SIGN_PROFILE,
            hosts: vec![],
            subject: None,
        };
        self.post(tls, &ask).await
    }

    /// Whether it answers with a certificate of one of the roots.
    ///
    /// # Errors
    /// What keeps it from that.
    pub async fn check_reachable(&self, tls: &Tls) -> Result<(), ExternalError> {
        let uri = address(self.url)?;
        self.within(self.connect(tls, &uri)).await.map(drop)
    }

    async fn post(&self, tls: &Tls, ask: &Ask<'_>) -> Result<String, ExternalError> {
        self.within(self.exchange(tls, ask)).await
    }

    async fn within<T>(
        &self,
        what: impl Future<Output = Result<T, ExternalError>>,
    ) -> Result<T, ExternalError> {
        let late = |_| ExternalError::Timeout {
            url: self.url.to_owned(),
        };
        timeout(REQUEST_TIMEOUT, what).await.map_err(late)?
    }

    async fn connect(
        &self,
        tls: &Tls,
        uri: &Uri,
    ) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>, ExternalError> {
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(443);
        let connected = tls.connect_https(host, port, &self.roots).await;
        connected.map_err(|source| ExternalError::Connect {
            url: self.url.to_owned(),
            source,
        })
    }

    async fn exchange(&self, tls: &Tls, ask: &Ask<'_>) -> Result<String, ExternalError> {
        let failed = |why: String| ExternalError::Request {
            url: self.url.to_owned(),
            why,
        };
        let refused = |why: String| ExternalError::Refused {
            url: self.url.to_owned(),
            why,
        };
        let uri = address(self.url)?;
        let stream = self.connect(tls, &uri).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let body = serde_json::to_vec(ask).map_err(|error| failed(error.to_string()))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, uri.authority().map_or("", |it| it.as_str()))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| failed(error.to_string()))?;
        let answer = async {
            let answer = sender.send_request(request).await;
            let answer = answer.map_err(|error| failed(error.to_string()))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
            let body = body.await.map_err(|error| failed(error.to_string()))?;
            Ok((status, body.to_bytes()))
        };
        // The connection moves what the request needs; it ends with it.
        let (status, body) = {
            tokio::pin!(answer, connection);
            tokio::select! {
                answer = &mut answer => answer?,
                ended = &mut connection => {
                    ended.map_err(|error| failed(error.to_string()))?;
                    answer.await?
                }
            }
        };
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|error| refused(format!("{status}, not an answer of cfssl: {error}")))?;
        match answer.result {
            Some(result) if answer.success => Ok(result.certificate),
            Some(_) | None => {
                let words: Vec<_> = answer.errors.into_iter().map(|it| it.message).collect();
                Err(refused(format!("{status}: {}", words.join(", "))))
            }
        }
    }
}

/// Reads the address of an external authority.
///
/// # Errors
/// When it is not `https://host[:port]/path`.
pub fn address(url: &str) -> Result<Uri, ExternalError> {
    let wrong = |why: String| ExternalError::Url {
        url: url.to_owned(),
        why,
    };
    let uri: Uri = url.parse().map_err(|error| wrong(format!("{error}")))?;
    if uri.scheme_str() != Some("https") || uri.host().is_none_or(str::is_empty) {
        return Err(wrong("write https://HOST[:PORT]/PATH".to_owned()));
    }
    Ok(uri)
}
