//! What a struct of plain data looks like in memory.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, Error, Result, parse_quote};

use crate::{fields, name_of};

/// Implements `Plain`, with the structure that follows from the fields.
pub(crate) fn expand(input: &DeriveInput, support: &TokenStream) -> Result<TokenStream> {
    let fields = fields(
        input,
        "`Plain` can be derived for structs only: not all bytes are a value of an enum, or of every \
         field of a union",
    )?;
    if !has_fixed_layout(input)? {
        let problem = "`Plain` needs `#[repr(C)]` or `#[repr(transparent)]`: otherwise each program \
                       may put the fields in another order";
        return Err(Error::new_spanned(&input.ident, problem));
    }
    let members: Vec<_> = fields.members().collect();
    let names = members.iter().map(name_of);
    let types = fields.iter().map(|field| &field.ty);

    let mut generics = input.generics.clone();
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(parse_quote!(#support::Plain));
    }
    let (implemented, of, provided) = generics.split_for_impl();
    let name = &input.ident;
    Ok(quote! {
        impl #implemented #support::Plain for #name #of #provided {
            const STRUCTURE: #support::Structure = #support::Structure::of_struct(
                ::core::mem::size_of::<Self>(),
                ::core::mem::align_of::<Self>(),
            )#(.with_field(
                #names,
                ::core::mem::offset_of!(Self, #members),
                <#types as #support::Plain>::STRUCTURE,
            ))*;
        }
    })
}

/// Whether every program lays the struct out alike.
fn has_fixed_layout(input: &DeriveInput) -> Result<bool> {
    let mut fixed = false;
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("repr")) {
        attribute.parse_nested_meta(|meta| {
            fixed |= meta.path.is_ident("C") || meta.path.is_ident("transparent");
            // `align(8)`, `packed(2)`: what is in the parentheses changes nothing.
            if meta.input.peek(syn::token::Paren) {
                let inside;
                syn::parenthesized!(inside in meta.input);
                inside.parse::<TokenStream>()?;
            }
            Ok(())
        })?;
    }
    Ok(fixed)
}
