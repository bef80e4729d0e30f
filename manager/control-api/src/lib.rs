//! What users ask: validation, defaults, views and verbs, behind every front.
