# synthetic
c.JupyterHub.bind_url = 'http://127.0.0.1:8000'
c.JupyterHub.authenticator_class = 'pam'
c.Authenticator.admin_users = {'mira'}
c.JupyterHub.admin_access = False
