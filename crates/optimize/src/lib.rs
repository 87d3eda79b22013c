//! Sterna: optimize.
