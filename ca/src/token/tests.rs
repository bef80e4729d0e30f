//! What is and is not a join token.
