//! Container output on its way from workers to the user.
