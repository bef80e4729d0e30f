//! The wire formats: generated messages and services, and their conversions to the nouns.
