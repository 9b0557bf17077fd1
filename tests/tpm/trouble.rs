//! What goes wrong with a TPM.
