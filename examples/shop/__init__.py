"""The demo shop: users who view, cart and order in categories, by a process that is known.

Because the process is known, so is the best ROC AUC that an honest model can reach: see
`examples.shop.process.purchase_probability`.
"""
