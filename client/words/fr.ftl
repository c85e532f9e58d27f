err-usage-text-too-long = le texte dépasse 60 000 octets ; envoyez-le sous forme de fichier
err-usage-text-empty = le texte est vide
err-usage-name-too-long = le nom ou l’étiquette dépasse 200 octets
err-usage-document-too-large = le document dépasse 16 Gio
err-usage-not-a-file = ce n’est pas un fichier ordinaire
err-usage-no-relay = ce coffre ne connaît aucun relais
err-usage-days = le nombre de jours doit être compris entre 1 et 365
err-usage-ambiguous = plusieurs éléments correspondent ; écrivez-en davantage
err-usage-own-invite = cette invitation est la vôtre
err-usage-case-ended = on ne peut plus écrire dans ce dossier
do-usage = Rien n’a été fait. `martlet help` explique comment écrire la commande.

err-bad-link = l’invitation ou le lien est illisible : { $detail }
do-bad-link = Copiez de nouveau tout le texte, de `martlet:` jusqu’à la fin. Les espaces et les majuscules n’ont pas d’importance.
err-no-vault = il n’y a pas de coffre ici
do-no-vault = Créez-en un avec `martlet init`, ou indiquez où il se trouve avec `--home`.
err-vault-exists = il y a déjà un coffre ici
do-vault-exists = Rien n’a été modifié. Utilisez-le tel quel, ou choisissez un autre répertoire avec `--home`.
err-vault-busy = le coffre est utilisé par un autre programme
do-vault-busy = Attendez que l’autre martlet ait terminé, puis réessayez. Rien n’est perdu.
err-wrong-passphrase = la phrase de passe n’ouvre pas le coffre
do-wrong-passphrase = Réessayez ; les majuscules et les espaces comptent. Personne ne peut réinitialiser une phrase de passe.
err-vault-damaged = le coffre est endommagé : { $detail }
do-vault-damaged = Ne le supprimez pas. Copiez le répertoire en lieu sûr, puis demandez de l’aide.
err-vault-rolled-back = le coffre est une ancienne copie de lui-même
do-vault-rolled-back = N’écrivez pas depuis cette copie. Utilisez la plus récente, ou recommencez avec un nouveau coffre et une nouvelle invitation.
err-disk-full = le disque est plein
do-disk-full = Libérez de la place sur cet appareil, puis relancez la commande. Ce qui était enregistré est en sécurité.
err-file = un fichier ne peut pas être utilisé : { $detail }
do-file = Vérifiez que le fichier ou le répertoire existe et que vous avez le droit de l’utiliser, puis réessayez.

err-unreachable = le relais est injoignable
do-unreachable = Rien n’est perdu. Vérifiez la connexion à Internet, puis lancez `martlet sync`.

err-wrong-pin = la clé du relais n’est pas celle attendue ; rien n’a été envoyé
do-wrong-pin = Quelqu’un s’est peut-être interposé. N’allez pas plus loin ; essayez un autre réseau, ou demandez un nouveau lien.
err-wrong-card-hash = l’empreinte de la carte n’est pas celle de l’invitation ; rien n’a été envoyé
err-wrong-card-signature = la signature de la carte est fausse ; rien n’a été envoyé
err-wrong-card-package = un paquet de clés de la carte appartient à quelqu’un d’autre ; rien n’a été envoyé
do-wrong-card = Ce n’est peut-être pas la personne que vous croyez. Demandez-lui, de vive voix ou en personne, une nouvelle invitation.
err-wrong-document = le document n’est pas celui que sa lettre annonce
do-wrong-document = Le document n’a pas été gardé. Demandez à la personne qui l’a envoyé de l’envoyer de nouveau.

err-expired = le relais n’a plus le document
do-expired = Demandez à la personne qui a envoyé le document de l’envoyer de nouveau.
err-invite-expired = l’invitation a expiré ou a été retirée
do-invite-expired = Demandez une nouvelle invitation.
err-not-found-case = ce dossier n’existe pas
do-not-found-case = `martlet cases` donne la liste des dossiers.
err-not-found-member = cette personne ne fait pas partie du dossier
do-not-found-member = `martlet cases` donne la liste des membres de chaque dossier.
err-not-found-document = ce document n’existe pas dans le dossier
do-not-found-document = `martlet read CASE --all` donne la liste des documents d’un dossier.
err-not-found-invite = cette invitation n’existe pas
do-not-found-invite = `martlet invites` donne la liste de vos invitations.

err-refused = le relais a refusé : { $detail }
do-refused = Ce qui devait être envoyé est gardé. Réessayez plus tard ; si cela continue, adressez-vous à la personne qui gère le relais.
err-protocol = le relais ou un correspondant enfreint le protocole : { $detail }
do-protocol = Rien n’a été montré sans avoir pu être vérifié. Mettez martlet à jour ; si cela continue, prévenez la personne qui gère le relais.
err-partly = interrompu ; en relançant la commande, elle reprendra ici
do-partly = Relancez la même commande ; elle reprend là où elle s’est arrêtée.
err-internal = erreur interne : { $detail }
do-internal = C’est un défaut de martlet. Votre coffre est conservé ; merci de le signaler.

warn-relay-differs = ATTENTION : le relais a montré des choses différentes à différentes personnes. Parlez aux autres par un autre moyen.
warn-relay-forgot = Le relais a perdu le canal de ce dossier. Les lettres attendent ici que l’appareil de l’avocat soit en ligne.
warn-lost = Cet appareil ne peut plus suivre le dossier. Demandez une nouvelle invitation.
warn-unknown = ATTENTION : il y a un problème que cette version ne sait pas décrire. Mettez martlet à jour.

err-passphrase-empty = la phrase de passe est vide
err-passphrase-differs = les deux phrases de passe sont différentes
err-passphrase-needed = il faut une phrase de passe : utilisez `--passphrase-file FILE` ou `--passphrase-fd N`, ou lancez la commande dans un terminal
ask-passphrase = Phrase de passe :
ask-again = Encore une fois la même :
ask-how = Une phrase de passe faite pour vous : 1 pour six mots, 2 pour des chiffres. Ou appuyez sur Entrée pour écrire la vôtre :
tell-made = Voici votre phrase de passe, montrée une seule fois. Notez-la et cachez-la bien ; les espaces comptent. Personne ne peut la réinitialiser.
