//! The derives of multiproc. What they implement is documented at the traits of the same names.
//!
//! | file | idea |
//! |---|---|
//! | `plain` | `Plain`: what a struct of numbers looks like in memory |
//! | `handle` | `Handle`: a struct of handles is a handle itself |
//!
//! A derive names the crate whose trait it implements, so there is one for each crate that a program may
//! depend on: `Plain` and `Handle` for `multiproc-ipc`; `MultiprocPlain` and `MultiprocHandle` for
//! `multiproc`, which calls them `Plain` and `Handle` again.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, Member, parse_macro_input};

mod handle;
mod plain;

/// Implements `multiproc_ipc::Plain` for a struct.
#[proc_macro_derive(Plain)]
pub fn plain(input: TokenStream) -> TokenStream {
    derive(input, plain::expand, quote!(::multiproc_ipc))
}

/// Implements `multiproc::Plain` for a struct.
#[proc_macro_derive(MultiprocPlain)]
pub fn multiproc_plain(input: TokenStream) -> TokenStream {
    derive(input, plain::expand, quote!(::multiproc))
}

/// Implements `multiproc_ipc::Handle` for a struct.
#[proc_macro_derive(Handle)]
pub fn handle(input: TokenStream) -> TokenStream {
    derive(input, handle::expand, quote!(::multiproc_ipc))
}

/// Implements `multiproc::Handle` for a struct.
#[proc_macro_derive(MultiprocHandle)]
pub fn multiproc_handle(input: TokenStream) -> TokenStream {
    derive(input, handle::expand, quote!(::multiproc))
}

/// Runs one of the derives for who depends on the crate `of`.
fn derive(
    input: TokenStream,
    expand: fn(&DeriveInput, &Tokens) -> syn::Result<Tokens>,
    of: Tokens,
) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let support = quote!(#of::__private);
    expand(&input, &support).unwrap_or_else(Error::into_compile_error).into()
}

/// The fields of a struct; `otherwise` is what is said of anything else.
fn fields<'a>(input: &'a DeriveInput, otherwise: &str) -> syn::Result<&'a Fields> {
    match &input.data {
        Data::Struct(data) => Ok(&data.fields),
        _ => Err(Error::new_spanned(&input.ident, otherwise)),
    }
}

/// What a field is called; by its place in a tuple.
fn name_of(member: &Member) -> String {
    match member {
        Member::Named(name) => name.to_string(),
        Member::Unnamed(index) => index.index.to_string(),
    }
}
