//! Changing a service's spec: reads it, changes it, writes it, and again when somebody was faster.

use proto::control::{GetServiceRequest, UpdateServiceRequest};
use types::{Service, ServiceSpec};

use crate::connect::Connection;
use crate::error::Error;
use crate::output;

/// Times a change is made anew because the service changed meanwhile.
const STALE_RETRIES_MAX: usize = 10;

/// What to write.
pub(crate) enum Write<'a> {
    /// The spec with this change.
    Change(&'a dyn Fn(&mut ServiceSpec) -> Result<(), Error>),
    /// The previous spec.
    Previous,
}

/// Writes the service called `key`, which is returned as stored then.
pub(crate) async fn write(
    connection: &Connection,
    key: &str,
    what: &Write<'_>,
) -> Result<Service, Error> {
    let mut control = connection.control();
    let mut tries = 0;
    loop {
        let service = read(connection, key).await?;
        let mut spec = service.spec;
        let rollback = match what {
            Write::Change(change) => {
                change(&mut spec)?;
                false
            }
            Write::Previous => true,
        };
        let request = UpdateServiceRequest {
            id: service.id.to_string(),
            version: service.meta.version.index,
            spec: Some((&spec).into()),
            rollback,
        };
        match control.update_service(request).await.map_err(Error::from) {
            Ok(answer) => {
                let answer = answer.into_inner();
                for warning in answer.warnings {
                    output::note(format!("warning: {warning}"));
                }
                return Ok(Service::try_from(answer.service.unwrap_or_default())?);
            }
            Err(error) if error.is_stale() && tries < STALE_RETRIES_MAX => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// The service called `key`.
pub(crate) async fn read(connection: &Connection, key: &str) -> Result<Service, Error> {
    let request = GetServiceRequest {
        key: key.to_owned(),
    };
    let view = connection
        .control()
        .get_service(request)
        .await?
        .into_inner()
        .service;
    Ok(Service::try_from(
        view.and_then(|view| view.service).unwrap_or_default(),
    )?)
}
