//! `swarmctl image ls`

use clap::Args;
use proto::daemon::{ImageSummary, ListImagesRequest};
use types::Timestamp;

use crate::connect::Host;
use crate::error::Error;
use crate::filter::{Filter, Filters};
use crate::format::{Column, Format, Row, hidden, print_list, row, shown};
use crate::human;
use crate::task_list::truncate;

const COLUMNS: [Column; 6] = [
    shown("Repository", "REPOSITORY"),
    shown("Tag", "TAG"),
    shown("ID", "IMAGE ID"),
    shown("CreatedSince", "CREATED"),
    shown("Size", "SIZE"),
    hidden("CreatedAt", "CREATED AT"),
];

/// Characters of an id that a table shows.
const ID_LEN: usize = 12;
/// What stands for a name that is missing.
const NONE: &str = "<none>";

/// List the images of this machine
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl image ls
  swarmctl image ls --format '{{.Repository}}:{{.Tag}}'
  swarmctl image ls --filter reference=web")]
pub(crate) struct Ls {
    /// Only this repository, or repository:tag
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
    /// Only images that match: reference
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
    /// table, json, or a template like {{.Repository}}:{{.Tag}}
    #[arg(long)]
    format: Option<Format>,
    /// Show ids whole
    #[arg(long)]
    no_trunc: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
}

impl Ls {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let filters = Filters::new(&self.filters, &["reference"])?;
        let mut images = host.connect().await?.images()?;
        let list = images.list(ListImagesRequest {}).await?.into_inner().images;
        let rows = self.rows(list, &filters, Timestamp::now());
        print_list(&COLUMNS, rows, self.format.as_ref(), self.quiet)
    }

    fn rows(
        &self,
        mut images: Vec<ImageSummary>,
        filters: &Filters<'_>,
        now: Timestamp,
    ) -> Vec<Row> {
        images.sort_by(|a, b| {
            b.created
                .cmp(&a.created)
                .then_with(|| a.names.cmp(&b.names))
        });
        let mut rows = vec![];
        for image in images {
            let mut names: Vec<(&str, &str)> = image.names.iter().map(|name| split(name)).collect();
            if names.is_empty() {
                names.push((NONE, NONE));
            }
            let wanted = |wanted: &str, (repository, tag): (&str, &str)| {
                wanted == repository || wanted == format!("{repository}:{tag}")
            };
            names.retain(|name| {
                self.reference
                    .as_deref()
                    .is_none_or(|reference| wanted(reference, *name))
                    && filters.any("reference", |reference| wanted(reference, *name))
            });
            if self.quiet {
                // One id however many names it has.
                names.truncate(1);
            }
            rows.extend(names.into_iter().map(|name| self.row(&image, name, now)));
        }
        rows
    }

    fn row(&self, image: &ImageSummary, (repository, tag): (&str, &str), now: Timestamp) -> Row {
        let plain = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
        let id = if self.no_trunc {
            image.id.clone()
        } else {
            truncate(plain, ID_LEN)
        };
        let created = Timestamp(image.created);
        let since = if created.is_set() {
            human::ago(now, created)
        } else {
            "N/A".to_owned()
        };
        row(
            &COLUMNS,
            [
                repository.into(),
                tag.into(),
                id.into(),
                since.into(),
                human::size(image.size_bytes).into(),
                created.to_string().into(),
            ],
        )
    }
}

/// Repository and tag; a colon before the last slash belongs to a port.
fn split(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        Some(_) | None => (name, NONE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::list;

    #[test]
    fn the_table_is_dockers() {
        let image = |id: &str, names: &[&str], created| ImageSummary {
            id: format!("sha256:{}", id.repeat(64)),
            names: names.iter().map(ToString::to_string).collect(),
            created: Timestamp::from_secs(created).0,
            size_bytes: 12_345_678,
        };
        let images = vec![
            image("a", &["web:1", "r:5000/web:2"], 100),
            image("b", &[], 90),
        ];
        let show = |reference: Option<&str>, quiet| {
            let ls = Ls {
                reference: reference.map(str::to_owned),
                filters: vec![],
                format: None,
                no_trunc: false,
                quiet,
            };
            let filters = Filters::new(&[], &[]).unwrap();
            let rows = ls.rows(images.clone(), &filters, Timestamp::from_secs(130));
            list(&COLUMNS, rows, None, quiet).unwrap()
        };
        assert_eq!(
            show(None, false),
            "REPOSITORY   TAG       IMAGE ID       CREATED          SIZE\n\
             web          1         aaaaaaaaaaaa   30 seconds ago   12.3MB\n\
             r:5000/web   2         aaaaaaaaaaaa   30 seconds ago   12.3MB\n\
             <none>       <none>    bbbbbbbbbbbb   40 seconds ago   12.3MB\n"
        );
        assert_eq!(show(Some("r:5000/web"), false).lines().count(), 2);
        assert_eq!(show(None, true), "aaaaaaaaaaaa\nbbbbbbbbbbbb\n");
    }
}
